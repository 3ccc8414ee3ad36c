using System.Collections.Immutable;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Paging;

namespace FusedAttention.Metal.Memory;

/// <summary>The contents of a cache's blocks in memory that processor and GPU share: two allocations a layer, so that a layer waits for its own work only.</summary>
internal sealed unsafe class MetalBlockStorage<T> : BlockStorage<T>
    where T : unmanaged
{
    private readonly MetalDevice _device;
    private readonly SharedMemory[] _keys;
    private readonly SharedMemory[] _values;
    private readonly CacheShape _shape;

    public MetalBlockStorage(MetalDevice device, PagedKeyValueCacheOptions options)
        : base(options)
    {
        _device = device;
        _shape = new(sizeof(T), options.KeyValueHeads, options.KeyDim, options.ValueDim);
        _keys = new SharedMemory[options.Layers];
        _values = new SharedMemory[options.Layers];
        try
        {
            for (int layer = 0; layer < options.Layers; layer++)
            {
                _keys[layer] = device.AllocateMemory(KeyLayerBytes);
                _values[layer] = device.AllocateMemory(ValueLayerBytes);
            }
        }
        catch
        {
            Dispose(disposing: true);
            throw;
        }
    }

    public override bool IsDisposed => _keys[0].IsClosed;

    public CacheShape Shape => _shape;

    public SharedMemory KeyMemory(int layer) => _keys[layer];

    public SharedMemory ValueMemory(int layer) => _values[layer];

    /// <summary>
    /// The processor copies if the GPU is done with the cache, and the GPU otherwise, behind what it has been given: nobody waits, which matters under the ledger's lock.
    /// </summary>
    public override void CopyBlock(int from, int to, int slots)
    {
        bool isPending = false;
        for (int layer = 0; layer < _keys.Length; layer++) isPending |= _keys[layer].IsPending || _values[layer].IsPending;
        if (!isPending)
        {
            base.CopyBlock(from, to, slots);
            return;
        }

        using TransientPool.Rental transient = _device.Transient.Rent();
        var launches = ImmutableArray.CreateBuilder<KernelLaunch>(_keys.Length);
        var uses = new MemoryUse[2 * _keys.Length];
        SlotCopy copy = new() { From = (long)from * Options.BlockSize, To = (long)to * Options.BlockSize, Slots = slots };
        int held = 0;
        try
        {
            for (int layer = 0; layer < _keys.Length; layer++)
            {
                foreach (SharedMemory memory in (ReadOnlySpan<SharedMemory>)[_keys[layer], _values[layer]])
                {
                    memory.Hold();
                    uses[held++] = new(memory, IsWritten: true);
                }

                if (CachePlan.CopySlots(_shape, new(_keys[layer].Memory, 0), new(_values[layer].Memory, 0), [copy], transient) is { } launch) launches.Add(launch);
            }

            if (launches.Count > 0) _device.Submit([launches.DrainToImmutable()], transient, uses);
        }
        finally
        {
            foreach (MemoryUse use in uses.AsSpan(0, held)) use.Memory.DangerousRelease();
        }
    }

    protected override T* KeysOf(int layer) => (T*)_keys[layer].Pointer;

    protected override T* ValuesOf(int layer) => (T*)_values[layer].Pointer;

    protected override void AwaitWrites(int layer)
    {
        _keys[layer].AwaitWrites();
        _values[layer].AwaitWrites();
    }

    protected override void Acquire(int layer)
    {
        _keys[layer].Hold();
        try
        {
            _values[layer].Hold();
        }
        catch
        {
            _keys[layer].DangerousRelease();
            throw;
        }

        try
        {
            _keys[layer].AwaitUse();
            _values[layer].AwaitUse();
        }
        catch
        {
            Release(layer);
            throw;
        }
    }

    protected override void Release(int layer)
    {
        _keys[layer].DangerousRelease();
        _values[layer].DangerousRelease();
    }

    protected override void Dispose(bool disposing)
    {
        foreach (SharedMemory? memory in _keys) memory?.Dispose();
        foreach (SharedMemory? memory in _values) memory?.Dispose();
    }
}
