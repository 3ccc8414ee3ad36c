using System.Numerics.Tensors;

namespace FusedAttention.Paging;

/// <summary>
/// The contents of a cache's blocks: for each layer, keys <c>[blocks, blockSize, kvHeads, keyDim]</c> and values likewise, at addresses of the processor. Where the memory
/// comes from, and what must have ended before the processor may touch it, is the derived class's.
/// </summary>
internal abstract unsafe class BlockStorage<T> : IBlockStorage, IDisposable
    where T : unmanaged
{
    protected BlockStorage(PagedKeyValueCacheOptions options)
    {
        Options = options;
        try
        {
            checked
            {
                long heads = (long)options.Blocks * options.BlockSize * options.KeyValueHeads;
                KeyLayerBytes = Aligned(heads * options.KeyDim * sizeof(T));
                ValueLayerBytes = Aligned(heads * options.ValueDim * sizeof(T));
                Bytes = (KeyLayerBytes + ValueLayerBytes) * options.Layers;
                _ = (nint)Bytes;
            }
        }
        catch (OverflowException e)
        {
            throw new ArgumentException($"A cache of these sizes does not fit the address space: {options}.", nameof(options), e);
        }
    }

    /// <summary>All layers together.</summary>
    public long Bytes { get; }

    public abstract bool IsDisposed { get; }

    protected PagedKeyValueCacheOptions Options { get; }

    /// <summary>Of one layer, whole cache lines.</summary>
    protected long KeyLayerBytes { get; }

    /// <summary>Of one layer, whole cache lines.</summary>
    protected long ValueLayerBytes { get; }

    public ReadOnlyTensorSpan<T> Keys(int layer)
    {
        AwaitWrites(layer);
        return View(KeysOf(layer), Options.KeyDim);
    }

    public ReadOnlyTensorSpan<T> Values(int layer)
    {
        AwaitWrites(layer);
        return View(ValuesOf(layer), Options.ValueDim);
    }

    /// <summary>Until the lease is disposed, the layer's memory is there, whatever other threads do; and a device has ended what it was to do with it.</summary>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public Lease Hold(int layer) => new(this, layer);

    /// <summary>Where a layer's keys of a slot begin.</summary>
    public T* Key(int layer, int block, int slot) => KeysOf(layer) + (RowOf(block, slot) * Options.KeyDim);

    /// <summary>Where a layer's values of a slot begin.</summary>
    public T* Value(int layer, int block, int slot) => ValuesOf(layer) + (RowOf(block, slot) * Options.ValueDim);

    public virtual void CopyBlock(int from, int to, int slots)
    {
        long rows = (long)slots * Options.KeyValueHeads;
        long keyBytes = rows * Options.KeyDim * sizeof(T), valueBytes = rows * Options.ValueDim * sizeof(T);
        for (int layer = 0; layer < Options.Layers; layer++)
        {
            using Lease lease = Hold(layer);
            Buffer.MemoryCopy(Key(layer, from, 0), Key(layer, to, 0), keyBytes, keyBytes);
            Buffer.MemoryCopy(Value(layer, from, 0), Value(layer, to, 0), valueBytes, valueBytes);
        }
    }

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract T* KeysOf(int layer);

    protected abstract T* ValuesOf(int layer);

    /// <summary>Waits until a device has written what it was to write to a layer: it may still be reading.</summary>
    protected abstract void AwaitWrites(int layer);

    protected abstract void Acquire(int layer);

    protected abstract void Release(int layer);

    protected abstract void Dispose(bool disposing);

    private static long Aligned(long bytes) => checked(bytes + AlignedMemory.Alignment - 1) / AlignedMemory.Alignment * AlignedMemory.Alignment;

    private long RowOf(int block, int slot) => (((long)block * Options.BlockSize) + slot) * Options.KeyValueHeads;

    private ReadOnlyTensorSpan<T> View(T* first, int dim)
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Options.KeyValueHeads, dim];
        return new(first, (nint)((long)Options.Blocks * Options.BlockSize * Options.KeyValueHeads * dim), lengths);
    }

    public readonly ref struct Lease
    {
        private readonly BlockStorage<T> _storage;
        private readonly int _layer;

        public Lease(BlockStorage<T> storage, int layer)
        {
            storage.Acquire(layer);
            _storage = storage;
            _layer = layer;
        }

        public void Dispose() => _storage.Release(_layer);
    }
}
