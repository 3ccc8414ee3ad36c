using System.Numerics;
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
    }

    protected PtxKernel Kernel => _k;

    protected CallReader Call => _call;

    protected WarpgroupMemory Memory => _memory;

    protected WarpgroupTile Tile => _tile;

    protected WarpgroupParameters Parameters => _parameters;

    protected I32 Lane => _lane;

    /// <summary>Whether it is the lane that speaks for the warp.</summary>
    protected Predicate IsElected => _isElected;

    /// <summary>Rows of a box of a paged cache: as many tokens as lie in one block and in one tile.</summary>
    public static int BoxRows(int blockSize, int keys) => blockSize == 0 ? keys : (int)BigInteger.GreatestCommonDivisor(blockSize, keys);

    /// <summary>The tile with the item's first key; tiles begin at multiples of their length.</summary>
    public static I32 FirstTile(ItemReader item, int keys) => I32.Quotient(item.FirstKey, keys) * keys;

    /// <summary>The tile with its last key; below the first one where there is none.</summary>
    public static I32 LastTile(ItemReader item, int keys) => (I32.Quotient(item.EndKey + (keys - 1), keys) * keys) - keys;

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

    /// <summary>
    /// The block of the lane's box of a tile of a paged cache, before the tile's stage is free: looking it up takes as long as a copy. Null where there are no blocks, or more boxes than lanes.
    /// </summary>
    protected I32? BlockAhead(Source source, I32 key)
    {
        if (_call.Traits.BlockSize == 0 || RowsOfBox * 32 < _tile.Keys) return null;
        I32 id = _k.Variable("block_id", (I32)0);
        (I32 begin, I32 end) = BoxesOf(source, key);
        _k.If((_lane >= begin) & (_lane < end), () => id.Set(BlockOf(source, key + (_lane * RowsOfBox)).Id));
        return id;
    }

    /// <summary>Queues the copy of a tile.</summary>
    /// <param name="source">Where from.</param>
    /// <param name="layout">Of the tile in shared memory.</param>
    /// <param name="to">Where to.</param>
    /// <param name="key">The tile's first.</param>
    /// <param name="arrivals">What counts its bytes.</param>
    /// <param name="block">What <see cref="BlockAhead"/> has found.</param>
    protected void CopyTile(Source source, BoxedRows layout, Shared to, I32 key, Shared arrivals, I32? block)
    {
        if (_call.Traits.BlockSize > 0)
        {
            CopyPages(source, layout, to, key, arrivals, block);
            return;
        }

        _k.If(_isElected, () =>
        {
            _k.ArriveExpecting(arrivals, layout.Bytes);
            for (int box = 0; box < layout.Boxes; box++)
                _k.CopyBox(to + (box * layout.BoxBytes), new(source.Map, box * BoxedRows.BoxColumns, source.Token + key, source.Head, source.Batch), arrivals);
        });
    }

    private int RowsOfBox => BoxRows(_call.Traits.BlockSize, _tile.Keys);

    /// <summary>A lane for each box of rows, as many as lie in one block and one tile: those that have no block are not read. With blocks of one token a box is a row of 128 bytes.</summary>
    private void CopyPages(Source source, BoxedRows layout, Shared to, I32 key, Shared arrivals, I32? found)
    {
        (I32 begin, I32 end) = BoxesOf(source, key);
        _k.Where(_isElected, () => _k.ArriveExpecting(arrivals, (end - begin) * (RowsOfBox * BoxedRows.RowBytes * layout.Boxes)));
        _k.WarpBarrier();
        if (found is not null) _k.If((_lane >= begin) & (_lane < end), () => CopyPage(_lane, found));
        else _k.For("page", begin + _lane, end, 32, page => CopyPage(page, null));

        void CopyPage(I32 page, I32? id)
        {
            (I32 first, I32 block) = BlockOf(source, key + (page * RowsOfBox), id);
            Shared rows = to + (page * (RowsOfBox * BoxedRows.RowBytes));
            for (int box = 0; box < layout.Boxes; box++)
                _k.CopyBox(rows + (box * layout.BoxBytes), new(source.Map, box * BoxedRows.BoxColumns, first, source.Head, block), arrivals);
        }
    }

    /// <summary>Of a tile's boxes those that have blocks, in which tokens lie: from the first, and behind the last.</summary>
    private (I32 Begin, I32 End) BoxesOf(Source source, I32 key) =>
        (I32.Quotient(I32.Max(source.FirstValid - key, 0), RowsOfBox), I32.Quotient(I32.Max(I32.Min(source.EndValid - key, _tile.Keys), 0) + (RowsOfBox - 1), RowsOfBox));

    /// <summary>Where a token lies: its place in its block, and the block's number.</summary>
    private (I32 Token, I32 Id) BlockOf(Source source, I32 token, I32? id = null)
    {
        int blockSize = _call.Traits.BlockSize;
        I32 block = I32.Quotient(token, blockSize);
        return (token - (block * blockSize), id ?? _call.BlockId(source.BlockTableStart, block));
    }

    /// <summary>Blocks that hold a key which some query of the sequence may see have an entry in its table; others have none, and behind the sequence's last key a block holds anything.</summary>
    protected Source PagesOf(SequenceReader sequence, ItemReader item, I32 head, I64 map)
    {
        int blockSize = _call.Traits.BlockSize;
        I32 first = Bound(sequence.QueryOffset - _call.LeftReach), end = Bound(sequence.QueryOffset + sequence.QueryLength.Widen() + _call.RightReach);
        return new(map, head, 0, item.Sequence, sequence.BlockTableStart, (I32.Quotient(first, blockSize) * blockSize).As("first_valid"), end.As("end_valid"));

        I32 Bound(I64 position) => I64.Min(I64.Max(position, 0), sequence.KeyLength.Widen()).ToI32();
    }

    /// <summary>Where a sequence begins along the tokens of a map. Starts and strides are multiples of a vector, 8 elements, and in these units numbers of 32 bits.</summary>
    protected static I32 TokenOf(I64 start, I64 stride, I32 isBatched) => I32.Select(isBatched.IsNot(0), 0, I32.Quotient((start >>> 3).ToI32(), (stride >>> 3).ToI32()));

    /// <summary>Where tiles come from.</summary>
    /// <param name="Map">Of the tensor.</param>
    /// <param name="Head">The key/value head.</param>
    /// <param name="Token">Of the sequence's first key.</param>
    /// <param name="Batch">Of the sequence.</param>
    /// <param name="BlockTableStart">Of the sequence.</param>
    /// <param name="FirstValid">What lies in front of this key is no token of the sequence.</param>
    /// <param name="EndValid">Nor what lies from here on.</param>
    protected sealed record Source(I64 Map, I32 Head, I32 Token, I32 Batch, I64 BlockTableStart, I32 FirstValid, I32 EndValid);
}
