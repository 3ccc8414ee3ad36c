using FusedAttention.Paging.Formats;

namespace FusedAttention.Paging.Storage;

/// <summary>The contents of a cache's blocks in host memory, one allocation for all: plane after plane, in each of them layer after layer.</summary>
internal sealed unsafe class HostBlockStorage : MappedBlockStorage
{
    private readonly AlignedMemory _memory;
    private readonly long[] _planeStarts;

    public HostBlockStorage(PagedKeyValueCacheOptions options, CacheFormat format)
        : base(options, format)
    {
        _planeStarts = new long[format.Planes.Length];
        for (int plane = 1; plane < _planeStarts.Length; plane++) _planeStarts[plane] = _planeStarts[plane - 1] + (LayerBytes(plane - 1) * options.Layers);
        _memory = new(Bytes);
    }

    protected override byte* PlaneOf(int plane, int layer) => _memory.Pointer + _planeStarts[plane] + (layer * LayerBytes(plane));

    protected override void Acquire(int layer)
    {
        bool held = false;
        _memory.DangerousAddRef(ref held);
    }

    protected override void Release(int layer) => _memory.DangerousRelease();

    protected override void Dispose(bool disposing) => _memory.Dispose();
}
