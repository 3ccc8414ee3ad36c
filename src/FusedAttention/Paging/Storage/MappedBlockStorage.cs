using System.Numerics.Tensors;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;

namespace FusedAttention.Paging.Storage;

/// <summary>
/// A cache's blocks at addresses of the processor. Where the memory comes from, and what must have ended before the processor may touch it, is the derived class's.
/// </summary>
internal abstract unsafe class MappedBlockStorage : BlockStorage
{
    protected MappedBlockStorage(PagedKeyValueCacheOptions options, CacheFormat format)
        : base(options, format)
    {
    }

    /// <summary>A plane of a layer as a tensor. It keeps nothing alive, and waits for nobody.</summary>
    public ReadOnlyTensorSpan<T> View<T>(int plane, int layer)
        where T : unmanaged
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Format.Heads, Format.Planes[plane].Elements];
        return new((T*)PlaneOf(plane, layer), (nint)((long)Options.Blocks * Options.BlockSize * SlotBytes(plane) / sizeof(T)), lengths);
    }

    /// <summary>A plane of scales, one a token and head, as a tensor of rank 3.</summary>
    public ReadOnlyTensorSpan<float> ScalesView(int plane, int layer)
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Format.Heads];
        return new((float*)PlaneOf(plane, layer), (nint)((long)Options.Blocks * Options.BlockSize * Format.Heads), lengths);
    }

    /// <summary>Until the lease is disposed, the layer's memory is there, whatever other threads do; and a device has ended what it was to do with it.</summary>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public Lease Hold(int layer) => new(this, layer);

    public override void Store(int layer, SlotRuns runs, in TokenRows keys, in TokenRows values)
    {
        using Lease lease = Hold(layer);
        foreach (SlotRun run in runs)
        {
            Store(CachePart.Keys, layer, run, keys);
            Store(CachePart.Values, layer, run, values);
        }
    }

    public override void Fetch(int layer, SlotRuns runs, int tokens, byte* destination)
    {
        using Lease lease = Hold(layer);
        for (int plane = 0; plane < Format.Planes.Length; plane++)
        {
            long bytes = SlotBytes(plane);
            foreach (SlotRun run in runs) Buffer.MemoryCopy(At(plane, layer, run.Block, run.Slot), destination + (run.Row * bytes), run.Count * bytes, run.Count * bytes);
            destination += tokens * bytes;
        }
    }

    public override void CopyBlock(int from, int to, int slots)
    {
        for (int layer = 0; layer < Options.Layers; layer++)
        {
            using Lease lease = Hold(layer);
            for (int plane = 0; plane < Format.Planes.Length; plane++)
            {
                long bytes = slots * SlotBytes(plane);
                Buffer.MemoryCopy(At(plane, layer, from, 0), At(plane, layer, to, 0), bytes, bytes);
            }
        }
    }

    /// <summary>Where a plane of a layer begins.</summary>
    protected abstract byte* PlaneOf(int plane, int layer);

    protected abstract void Acquire(int layer);

    protected abstract void Release(int layer);

    private void Store(CachePart part, int layer, in SlotRun run, in TokenRows rows) => Format.Store(
        part, rows, run.Row, run.Count, At((int)part, layer, run.Block, run.Slot), Format.HasScales ? (float*)At((int)part + CacheFormat.KeyScales, layer, run.Block, run.Slot) : null);

    private byte* At(int plane, int layer, int block, int slot) => PlaneOf(plane, layer) + OffsetOf(plane, block, slot);

    public readonly ref struct Lease
    {
        private readonly MappedBlockStorage _storage;
        private readonly int _layer;

        public Lease(MappedBlockStorage storage, int layer)
        {
            storage.Acquire(layer);
            _storage = storage;
            _layer = layer;
        }

        public void Dispose() => _storage.Release(_layer);
    }
}
