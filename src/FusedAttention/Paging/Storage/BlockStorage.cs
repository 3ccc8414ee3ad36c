using System.Numerics.Tensors;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;

namespace FusedAttention.Paging.Storage;

/// <summary>
/// The contents of a cache's blocks at addresses of the processor: for each layer the planes of the format. Where the memory comes from, and what must have ended before the processor may touch it,
/// is the derived class's.
/// </summary>
internal abstract unsafe class BlockStorage : IBlockStorage
{
    private readonly long[] _tokenBytes;
    private readonly long[] _layerBytes;

    protected BlockStorage(PagedKeyValueCacheOptions options, CacheFormat format)
    {
        Options = options;
        Format = format;
        _tokenBytes = new long[format.Planes.Length];
        _layerBytes = new long[format.Planes.Length];
        try
        {
            checked
            {
                for (int plane = 0; plane < _tokenBytes.Length; plane++)
                {
                    _tokenBytes[plane] = format.TokenBytes(plane);
                    _layerBytes[plane] = Aligned((long)options.Blocks * options.BlockSize * _tokenBytes[plane]);
                    Bytes += _layerBytes[plane] * options.Layers;
                }

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

    public CacheFormat Format { get; }

    protected PagedKeyValueCacheOptions Options { get; }

    /// <summary>A plane of a layer as a tensor. It keeps nothing alive, and waits for nobody.</summary>
    public ReadOnlyTensorSpan<T> View<T>(int plane, int layer)
        where T : unmanaged
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Format.Heads, Format.Planes[plane].Elements];
        return new((T*)PlaneOf(plane, layer), (nint)((long)Options.Blocks * Options.BlockSize * _tokenBytes[plane] / sizeof(T)), lengths);
    }

    /// <summary>Until the lease is disposed, the layer's memory is there, whatever other threads do; and a device has ended what it was to do with it.</summary>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public Lease Hold(int layer) => new(this, layer);

    /// <summary>Writes rows into their slots, in every plane.</summary>
    public void Store(int layer, SlotRuns runs, in TokenRows keys, in TokenRows values)
    {
        using Lease lease = Hold(layer);
        foreach (SlotRun run in runs)
        {
            for (int plane = 0; plane < _tokenBytes.Length; plane++)
                Format.Store(plane, Format.Planes[plane].Part == CachePart.Keys ? keys : values, run.Row, run.Count, At(plane, layer, run.Block, run.Slot));
        }
    }

    public virtual void CopyBlock(int from, int to, int slots)
    {
        for (int layer = 0; layer < Options.Layers; layer++)
        {
            using Lease lease = Hold(layer);
            for (int plane = 0; plane < _tokenBytes.Length; plane++)
            {
                long bytes = slots * _tokenBytes[plane];
                Buffer.MemoryCopy(At(plane, layer, from, 0), At(plane, layer, to, 0), bytes, bytes);
            }
        }
    }

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Bytes of a layer's plane, whole cache lines.</summary>
    protected long LayerBytes(int plane) => _layerBytes[plane];

    /// <summary>Where a plane of a layer begins.</summary>
    protected abstract byte* PlaneOf(int plane, int layer);

    protected abstract void Acquire(int layer);

    protected abstract void Release(int layer);

    protected abstract void Dispose(bool disposing);

    private static long Aligned(long bytes) => checked(bytes + AlignedMemory.Alignment - 1) / AlignedMemory.Alignment * AlignedMemory.Alignment;

    private byte* At(int plane, int layer, int block, int slot) => PlaneOf(plane, layer) + ((((long)block * Options.BlockSize) + slot) * _tokenBytes[plane]);

    public readonly ref struct Lease
    {
        private readonly BlockStorage _storage;
        private readonly int _layer;

        public Lease(BlockStorage storage, int layer)
        {
            storage.Acquire(layer);
            _storage = storage;
            _layer = layer;
        }

        public void Dispose() => _storage.Release(_layer);
    }
}
