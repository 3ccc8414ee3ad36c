using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Which keys the rows of an item see, as far as it can be said for all of them: found once, by the warp that announces the item, and left in its slot. What is left to a row is an addition and two comparisons,
/// since its reach moves with its query.
/// </summary>
/// <param name="FirstTile">The first tile of keys.</param>
/// <param name="LastTile">The last one; in front of the first one where there is none.</param>
/// <param name="FirstQuery">Of the sequence's queries, the item's first.</param>
/// <param name="Start">The first key that the first query may see by position, which may be before all keys.</param>
/// <param name="End">Behind the last key that it may see, which may be behind all keys.</param>
/// <param name="EndKey">Behind the last key of all.</param>
internal sealed record ItemRanges(I32 FirstTile, I32 LastTile, I32 FirstQuery, I32 Start, I32 End, I32 EndKey)
{
    /// <summary>In a slot, with what each warpgroup sees behind them.</summary>
    public const int Bytes = ReachOffset + (MostWarpgroups * WarpgroupReach.Bytes);

    private const int MostWarpgroups = 3;
    private const int ReachOffset = 32;

    /// <summary>Beyond every position that counts, and far enough from the end of the numbers that a query can be added.</summary>
    private const int MostPosition = int.MaxValue - 512;

    /// <summary>From where they were left.</summary>
    public static ItemRanges At(PtxKernel k, Shared at)
    {
        I32[] first = k.LoadVector<I32>(at, 4), second = k.LoadVector<I32>(at + 16, 2);
        return new(first[0], first[1], first[2], first[3], second[0], second[1]);
    }

    /// <summary>What the rows of a warpgroup see, from where it was left.</summary>
    public static WarpgroupReach ReachAt(PtxKernel k, Shared at, I32 warpgroup)
    {
        I32[] words = k.LoadVector<I32>(at + (ReachOffset + (warpgroup << 4)), 4);
        return new(words[0], words[1], words[2], words[3]);
    }

    /// <summary>Finds and leaves them: a warp, whose lanes each look after a warpgroup.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="tile">The kernel's sizes.</param>
    /// <param name="slot">The item, which all lanes see already.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="to">Where to, a multiple of 16.</param>
    public static void Leave(PtxKernel k, CallReader call, in WarpgroupTile tile, WorkSlot slot, I32 lane, Shared to)
    {
        ItemReader item = slot.Item;
        SequenceReader sequence = slot.Sequence;
        I32 query = call.QueryOf(item.FirstRow);
        I64 position = sequence.QueryOffset + query.Widen();
        var ranges = new ItemRanges(
            WarpgroupLoads.FirstTile(item, tile.Keys), WarpgroupLoads.LastTile(item, tile.Keys), query, Saturated(position - call.LeftReach), Saturated(position + call.RightReach + 1),
            I32.Min(item.EndKey, sequence.KeyLength));
        I32 row = lane << 6, lastRow = item.EndRow - item.FirstRow - 1;
        (I32 seenStart, I32 seenEnd, I32 wholeStart, I32 wholeEnd) = (item.FirstKey, item.EndKey, item.FirstKey, item.EndKey);
        if (!tile.SeesAll)
        {
            I32 first = call.QueryOf(I32.Min(row, lastRow)), last = call.QueryOf(I32.Min(row + (WarpgroupTile.WarpgroupRows - 1), lastRow));
            (seenStart, wholeEnd) = ranges.Of(first, item);
            (wholeStart, seenEnd) = ranges.Of(last, item);

            // With ALiBi only tiles that no row stands in front of are whole: distances fall by one a key there.
            if (call.Traits.Has(CallFeatures.Alibi)) wholeEnd = I32.Min(wholeEnd, I32.Max(Saturated(position + 1) + first, 0));
        }

        // A row's reach moves with its query, so the first row's first key and the last one's last are those of all.
        Predicate seesNothing = (row > lastRow) | (seenEnd <= seenStart);
        I32 firstTile = I32.Select(seesNothing, ranges.FirstTile, WarpgroupLoads.TileOf(seenStart, tile.Keys));
        I32 lastTile = I32.Select(seesNothing, ranges.FirstTile - tile.Keys, WarpgroupLoads.TileOf(seenEnd - 1, tile.Keys));
        k.If(lane < tile.Consumers, () => k.StoreVector(to + (ReachOffset + (lane << 4)), wholeStart, wholeEnd, firstTile, lastTile));
        k.If(lane.Is(0), () =>
        {
            k.StoreVector(to, ranges.FirstTile, ranges.LastTile, ranges.FirstQuery, ranges.Start);
            k.StoreVector(to + 16, ranges.End, ranges.EndKey);
        });
    }

    /// <summary>The keys that a row sees by position: the first, and behind the last.</summary>
    /// <param name="query">The row's, counted from the item's first.</param>
    /// <param name="item">The item.</param>
    public (I32 Start, I32 End) Of(I32 query, ItemReader item) => (I32.Max(Start + query, item.FirstKey), I32.Max(I32.Min(End + query, EndKey), 0));

    private static I32 Saturated(I64 position) => I64.Min(I64.Max(position, -MostPosition), MostPosition).ToI32();
}

/// <summary>What the rows of a warpgroup see of an item's keys.</summary>
/// <param name="WholeStart">The first key that all of them see by position.</param>
/// <param name="WholeEnd">Behind the last such key.</param>
/// <param name="FirstTile">The first tile of which one of them sees a key.</param>
/// <param name="LastTile">The last one; in front of the item's first tile where no row sees any key, or there are no rows.</param>
internal sealed record WarpgroupReach(I32 WholeStart, I32 WholeEnd, I32 FirstTile, I32 LastTile)
{
    /// <summary>Four words.</summary>
    public const int Bytes = 16;

    /// <summary>The same in registers that the assembler knows to be alike in all threads of a warp.</summary>
    public WarpgroupReach Uniform(PtxKernel k) => new(
        k.ShuffleFrom(WholeStart, 0).As("whole_start"), k.ShuffleFrom(WholeEnd, 0).As("whole_end"), k.ShuffleFrom(FirstTile, 0).As("first_tile"), k.ShuffleFrom(LastTile, 0).As("last_tile"));
}
