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
    /// <summary>In a slot, with the tiles that each warpgroup sees whole behind them.</summary>
    public const int Bytes = WholeOffset + (MostWarpgroups * 8);

    private const int MostWarpgroups = 3;
    private const int WholeOffset = 24;

    /// <summary>Beyond every position that counts, and far enough from the end of the numbers that a query can be added.</summary>
    private const int MostPosition = int.MaxValue - 512;

    /// <summary>From where they were left.</summary>
    public static ItemRanges At(PtxKernel k, Shared at)
    {
        I32[] first = k.LoadVector<I32>(at, 4), second = k.LoadVector<I32>(at + 16, 2);
        return new(first[0], first[1], first[2], first[3], second[0], second[1]);
    }

    /// <summary>The keys that all rows of a warpgroup see: the first, and behind the last.</summary>
    public static (I32 Start, I32 End) WholeAt(PtxKernel k, Shared at, I32 warpgroup)
    {
        I32[] both = k.LoadVector<I32>(at + (WholeOffset + (warpgroup << 3)), 2);
        return (both[0], both[1]);
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
        (I32 wholeStart, I32 wholeEnd) = (item.FirstKey, item.EndKey);
        if (!tile.SeesAll)
        {
            I32 row = lane << 6, lastRow = item.EndRow - item.FirstRow - 1;
            I32 first = call.QueryOf(I32.Min(row, lastRow)), last = call.QueryOf(I32.Min(row + (WarpgroupTile.WarpgroupRows - 1), lastRow));
            wholeStart = ranges.Of(last, item).Start;
            wholeEnd = ranges.Of(first, item).End;

            // With ALiBi only tiles that no row stands in front of are whole: distances fall by one a key there.
            if (call.Traits.Has(CallFeatures.Alibi)) wholeEnd = I32.Min(wholeEnd, I32.Max(Saturated(position + 1) + first, 0));
        }

        k.If(lane < tile.Consumers, () => k.StoreVector(to + (WholeOffset + (lane << 3)), wholeStart, wholeEnd));
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
