namespace FusedAttention.Paging;

/// <summary>The contents of a cache's blocks in host memory, one allocation for all: the keys of each layer, then the values of each.</summary>
internal sealed unsafe class HostBlockStorage<T> : BlockStorage<T>
    where T : unmanaged
{
    private readonly AlignedMemory _memory;

    public HostBlockStorage(PagedKeyValueCacheOptions options)
        : base(options)
    {
        _memory = new(Bytes);
    }

    public override bool IsDisposed => _memory.IsClosed;

    protected override T* KeysOf(int layer) => (T*)(_memory.Pointer + (layer * KeyLayerBytes));

    protected override T* ValuesOf(int layer) => (T*)(_memory.Pointer + (Options.Layers * KeyLayerBytes) + (layer * ValueLayerBytes));

    protected override void AwaitWrites(int layer)
    {
        // Only the processor writes here, and has written when its calls return.
    }

    protected override void Acquire(int layer)
    {
        bool held = false;
        _memory.DangerousAddRef(ref held);
    }

    protected override void Release(int layer) => _memory.DangerousRelease();

    protected override void Dispose(bool disposing) => _memory.Dispose();
}
