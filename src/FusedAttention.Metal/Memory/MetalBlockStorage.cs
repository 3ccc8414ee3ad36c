using System.Collections.Immutable;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Storage;

namespace FusedAttention.Metal.Memory;

/// <summary>The contents of a cache's blocks in memory that processor and GPU share: an allocation for each layer and plane, so that a layer waits for its own work only.</summary>
internal sealed unsafe class MetalBlockStorage : MappedBlockStorage
{
    private readonly MetalDevice _device;
    private readonly SharedMemory[][] _layers;

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
                for (int plane = 0; plane < format.Planes.Length; plane++) _layers[layer][plane] = device.AllocateMemory(LayerBytes(plane));
            }
        }
        catch
        {
            Dispose(disposing: true);
            throw;
        }
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

        using TransientPool.Rental transient = _device.Transient.Rent();
        int planes = Format.Planes.Length;
        var launches = ImmutableArray.CreateBuilder<KernelLaunch>(_layers.Length * planes / 2);
        var uses = new MemoryUse[_layers.Length * planes];
        SlotCopy copy = new() { From = (long)from * Options.BlockSize, To = (long)to * Options.BlockSize, Slots = slots };
        int held = 0;
        try
        {
            foreach (SharedMemory[] layer in _layers)
            {
                foreach (SharedMemory plane in layer)
                {
                    plane.Hold();
                    uses[held++] = new(plane, IsWritten: true);
                }

                // A launch copies a pair of planes: keys and values, or what belongs to them.
                for (int pair = 0; pair < planes; pair += 2)
                    if (CachePlan.CopySlots(ShapeOf(pair), new(layer[pair].Memory, 0), new(layer[pair + 1].Memory, 0), [copy], transient) is { } launch) launches.Add(launch);
            }

            if (launches.Count > 0) _device.Submit([launches.DrainToImmutable()], transient, uses);
        }
        finally
        {
            foreach (MemoryUse use in uses.AsSpan(0, held)) use.Memory.DangerousRelease();
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
