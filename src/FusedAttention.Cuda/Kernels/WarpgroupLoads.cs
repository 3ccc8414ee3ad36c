using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A warp that copies what items need from device to shared memory, as boxes of the device's copy unit. Keys that no row may see arrive too where a box holds them, and are hidden by their scores; their values,
/// which a weight of zero would not hide if they are not finite, are zeroed first where they are no tokens of the sequence at all.
/// </summary>
/// <remarks>Queries and keys have a warp, and values another: with 32 registers a thread one warp does not have room for both, and neither waits for a stage of the other.</remarks>
internal abstract class WarpgroupLoads
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupMemory _memory;
    private readonly WarpgroupTile _tile;
    private readonly WarpgroupParameters _parameters;
    private readonly I32 _lane;
    private readonly Predicate _isElected;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where to.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the warp.</param>
    protected WarpgroupLoads(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane)
    {
        (_k, _call, _memory, _tile, _lane) = (k, call, memory, tile, lane);
        _parameters = new(k);
        (_isElected, _) = k.ElectLane();
        Boxes = new(k, call, tile.Keys, lane, _isElected);
    }

    protected PtxKernel Kernel => _k;

    protected CallReader Call => _call;

    protected WarpgroupMemory Memory => _memory;

    protected WarpgroupTile Tile => _tile;

    protected WarpgroupParameters Parameters => _parameters;

    protected I32 Lane => _lane;

    /// <summary>Tiles as boxes.</summary>
    protected TileBoxes Boxes { get; }

    /// <summary>Whether it is the lane that speaks for the warp.</summary>
    protected Predicate IsElected => _isElected;

    /// <summary>The tile with the item's first key; tiles begin at multiples of their length.</summary>
    public static I32 FirstTile(ItemReader item, int keys) => TileOf(item.FirstKey, keys);

    /// <summary>The tile with its last key; below the first one where there is none.</summary>
    public static I32 LastTile(ItemReader item, int keys) => (I32.Quotient(item.EndKey + (keys - 1), keys) * keys) - keys;

    /// <summary>The tile that a key is in.</summary>
    public static I32 TileOf(I32 key, int keys) => I32.Quotient(key, keys) * keys;

    /// <summary>Queues the copies of all items as they are announced.</summary>
    public void LoadItems(WarpgroupWork work)
    {
        var queue = new StageRing(_k, "load_queue", WarpgroupMemory.Slots, parity: 0);
        _k.Repeat("load_item", () =>
        {
            WorkSlot slot = work.Take(queue);
            Predicate isThere = slot.Head >= 0;
            _k.If(isThere, () =>
            {
                Load(slot);
                _k.WarpBarrier();
                if (ChoosesNext) _k.Where(_isElected, () => _k.Arrive(_memory.WorkLoaded));
                Shared empty = WarpgroupMemory.Of(_memory.WorkEmpty, queue);
                _k.Where(_isElected, () => _k.Arrive(empty));
                queue.Advance();
            });
            return isThere;
        });
    }

    /// <summary>Whether the next item is chosen when this warp has queued the copies of one.</summary>
    protected virtual bool ChoosesNext => false;

    /// <summary>Queues an item's copies, from the last tile of keys to the first, as they will be needed.</summary>
    protected abstract void Load(WorkSlot slot);

    /// <summary>Has a tensor's map fetched ahead.</summary>
    protected I64 Fetched(I64 map, string name)
    {
        map.As(name);
        _k.Where(_isElected, () => _k.PrefetchMap(map));
        return map;
    }

    /// <summary>Blocks that hold a key which some query of the sequence may see have an entry in its table; others have none, and behind the sequence's last key a block holds anything.</summary>
    protected BoxSource PagesOf(SequenceReader sequence, ItemReader item, I32 head, I64 map)
    {
        int blockSize = _call.Traits.BlockSize;
        I32 first = Bound(sequence.QueryOffset - _call.LeftReach), end = Bound(sequence.QueryOffset + sequence.QueryLength.Widen() + _call.RightReach);
        return new(map, head, 0, item.Sequence, sequence.BlockTableStart, (I32.Quotient(first, blockSize) * blockSize).As("first_valid"), end.As("end_valid"));

        I32 Bound(I64 position) => I64.Min(I64.Max(position, 0), sequence.KeyLength.Widen()).ToI32();
    }
}
