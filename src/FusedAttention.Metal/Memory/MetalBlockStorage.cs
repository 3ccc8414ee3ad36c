using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;
using FusedAttention.Paging.Storage;

namespace FusedAttention.Metal.Memory;

/// <summary>The contents of a cache's blocks in memory that processor and GPU share: an allocation for each layer and plane, so that a layer waits for its own work only.</summary>
internal sealed unsafe class MetalBlockStorage : MappedBlockStorage
{
    private static readonly CallPool<LaunchList> Launches = new(CachePlan.NewLaunches);

    private readonly MetalDevice _device;
    private readonly SharedMemory[][] _layers;

    /// <summary>All planes, as what writes them.</summary>
    private readonly MemoryUse[] _allUses;

    public MetalBlockStorage(MetalDevice device, PagedKeyValueCacheOptions options, CacheFormat format)
        : base(options, format)
    {
        _device = device;
        _layers = new SharedMemory[options.Layers][];
        try
        {
            for (int layer = 0; layer < options.Layers; layer++)
            {
                _layers[layer] = new SharedMemory[format.Planes.Length];
                for (int plane = 0; plane < format.Planes.Length; plane++) _layers[layer][plane] = device.AllocateMemory(LayerBytes(plane), isCache: true);
            }
        }
        catch
        {
            Dispose(disposing: true);
            throw;
        }

        _allUses = [.. _layers.SelectMany(static layer => layer.Select(static plane => new MemoryUse(plane, IsWritten: true)))];
    }

    /// <summary>Keys and values themselves, as kernels see them.</summary>
    public CacheShape Shape => ShapeOf(CacheFormat.Keys);

    /// <summary>The memory of a layer, plane by plane.</summary>
    public ReadOnlySpan<SharedMemory> MemoryOf(int layer) => _layers[layer];

    /// <summary>
    /// The processor copies if the GPU is done with the cache, and the GPU otherwise, behind what it has been given: nobody waits, which matters under the ledger's lock.
    /// </summary>
    public override void CopyBlock(int from, int to, int slots)
    {
        bool isPending = false;
        foreach (SharedMemory[] layer in _layers)
            foreach (SharedMemory plane in layer) isPending |= plane.IsPending;
        if (!isPending)
        {
            base.CopyBlock(from, to, slots);
            return;
        }

        int held = 0;
        LaunchList launches = Launches.Rent();
        try
        {
            for (; held < _allUses.Length; held++) _allUses[held].Memory.Hold();
            using TransientLease transient = _device.RentTransient();
            MemoryPlace copies = transient.Memory.Take(sizeof(SlotCopy));
            *(SlotCopy*)(copies.Memory.Pointer + copies.Offset) = new() { From = (long)from * Options.BlockSize, To = (long)to * Options.BlockSize, Slots = slots };

            // A launch copies a pair of planes of a layer: keys and values, or what belongs to them. Pairs differ in shape, so each has a list of its own.
            for (int pair = 0; pair < Format.Planes.Length; pair += 2)
            {
                launches.Clear();
                CacheShape shape = ShapeOf(pair);
                foreach (SharedMemory[] layer in _layers) CachePlan.CopySlots(shape, new(layer[pair].Memory, 0), new(layer[pair + 1].Memory, 0), copies, 1, slots, launches);
                _device.Submit(launches, transient.Memory, _allUses);
            }
        }
        finally
        {
            launches.Clear();
            Launches.Return(launches);
            foreach (MemoryUse use in _allUses.AsSpan(0, held)) use.Memory.DangerousRelease();
        }
    }

    /// <summary>Writes rows that lie on the device into their slots, converted to the cache's type or quantized, in the order of the queue.</summary>
    /// <param name="layer">Which.</param>
    /// <param name="runs">Where they go.</param>
    /// <param name="tokens">How many there are.</param>
    /// <param name="source">Their type.</param>
    /// <param name="keys">Keys.</param>
    /// <param name="values">Values.</param>
    /// <param name="uses">The layer's planes, and what the rows lie in; held by the caller.</param>
    public void Append(int layer, SlotRuns runs, int tokens, AttentionElementType source, in TokenPlace keys, in TokenPlace values, ReadOnlySpan<MemoryUse> uses)
    {
        if (tokens == 0) return;
        LaunchList launches = Launches.Rent();
        try
        {
            using TransientLease transient = _device.RentTransient();
            MemoryPlace slots = transient.Memory.Take((long)tokens * sizeof(long));
            long* first = (long*)(slots.Memory.Pointer + slots.Offset);
            foreach (SlotRun run in runs)
                for (int i = 0; i < run.Count; i++) first[run.Row + i] = ((long)run.Block * Options.BlockSize) + run.Slot + i;
            SharedMemory[] planes = _layers[layer];
            CachePlan.Append(Shape, source, keys, values, PlaneAt(CacheFormat.Keys, CacheFormat.KeyScales), PlaneAt(CacheFormat.Values, CacheFormat.ValueScales), slots, tokens, launches);
            _device.Submit(launches, transient.Memory, uses);

            PlanePlace PlaneAt(int plane, int scales) => new(new(planes[plane].Memory, 0), Format.HasScales ? new MemoryPlace(planes[scales].Memory, 0) : null);
        }
        finally
        {
            launches.Clear();
            Launches.Return(launches);
        }
    }

    private CacheShape ShapeOf(int pair) => new(Format.Planes[pair].ElementType, Format.Heads, Format.Planes[pair].Elements, Format.Planes[pair + 1].Elements);

    protected override byte* PlaneOf(int plane, int layer) => _layers[layer][plane].Pointer;

    protected override void Acquire(int layer)
    {
        int held = 0;
        try
        {
            foreach (SharedMemory plane in _layers[layer])
            {
                plane.Hold();
                held++;
            }

            foreach (SharedMemory plane in _layers[layer]) plane.AwaitUse();
        }
        catch
        {
            foreach (SharedMemory plane in _layers[layer].AsSpan(0, held)) plane.DangerousRelease();
            throw;
        }
    }

    protected override void Release(int layer)
    {
        foreach (SharedMemory plane in _layers[layer]) plane.DangerousRelease();
    }

    protected override void Dispose(bool disposing)
    {
        foreach (SharedMemory?[]? layer in _layers)
        {
            if (layer is null) continue;
            foreach (SharedMemory? plane in layer) plane?.Dispose();
        }
    }
}
