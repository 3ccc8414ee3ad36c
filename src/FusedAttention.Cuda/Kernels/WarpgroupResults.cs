using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The end of an item for a lane of a warpgroup: the results of its two rows.</summary>
/// <param name="k">The kernel.</param>
/// <param name="call">The call.</param>
/// <param name="lane">Of the warp.</param>
/// <param name="rowOfLane">The lane's first row of the block's; the other one is 8 further on.</param>
internal sealed class WarpgroupResults(PtxKernel k, CallReader call, I32 lane, I32 rowOfLane)
{
    private readonly RowResult[] _rows = [RowResult.In(k, 0), RowResult.In(k, 1)];

    /// <summary>What is known of them before the last product has ended, and the log-sum-exps: it runs beside that.</summary>
    /// <param name="slot">The item.</param>
    /// <param name="rowsOf">Asks for the rows.</param>
    /// <param name="maximum">m of each.</param>
    /// <param name="sum">What the lane has of l of each.</param>
    public void Finish(WorkSlot slot, Func<WorkSlot, RowReader[]> rowsOf, F32[] maximum, F32[] sum)
    {
        F32 unit = RowWeights.Unit(call);
        ItemReader item = slot.Item;
        RowPlaces outputs = RowPlaces.Outputs(call, slot.Sequence);
        RowReader[] row = rowsOf(slot);
        for (int r = 0; r < _rows.Length; r++)
        {
            Predicate isRow = rowOfLane + (8 * r) < item.EndRow - item.FirstRow;
            RowReader reader = row[r];
            RowEnd end = RowEnd.Of(call, reader, maximum[r], k.Sum(sum[r], 1, 4), unit);
            _rows[r].Set(isRow, end.Factor, outputs.Of(reader.Query, reader.Head));
            if (call.Traits.Has(CallFeatures.LogSumExp)) k.If(isRow & (lane & 3).Is(0), () => reader.StoreLogSumExp(end.LogSumExp));
        }
    }

    /// <summary>Stores them.</summary>
    /// <param name="outputs">O, pairs of the two rows in turn.</param>
    /// <returns>Whether a sum is not finite.</returns>
    public Predicate Store(F32[] outputs)
    {
        var quads = new QuadRows(k, lane);
        Predicate isSpecial = k.Variable("is_special", value: false);
        for (int r = 0; r < _rows.Length; r++)
        {
            RowResult result = _rows[r];
            F32[] own = [.. outputs.Where((_, i) => (i >> 1 & 1) == r)];
            isSpecial.Set(isSpecial | (result.IsStored & !SpecialValues.AreNone(own)));
            Pair[] pairs = [.. own.Chunk(2).Select(two => Pair.Of(call.QueryFormat, two[0] * result.Factor, two[1] * result.Factor))];
            quads.Store(new(result.Place), pairs, call.Traits.ValueDim, result.IsStored);
        }

        return isSpecial;
    }

    /// <summary>What the warp's rows see of values that are not finite.</summary>
    public void AddSpecials(WorkSlot slot, I32 head)
    {
        var place = new WorkPlace(k, call, slot.Item, head, slot.Sequence);
        k.WarpBarrier();
        var specials = new SpecialValues(k, call, slot.Specials, lane);
        KeyRows values = KeyRows.Values(k, call, place.Sequence, place.Head);
        KeyRows? keys = call.Traits.Has(CallFeatures.ScoreFunction) ? KeyRows.Keys(k, call, place.Sequence, place.Head) : null;
        I32 firstRow = place.Item.FirstRow + rowOfLane - (lane >>> 2);
        k.For("careful_row", firstRow, I32.Min(firstRow + 16, place.Item.EndRow), 1, index =>
        {
            RowReader row = place.RowAt(index);
            specials.AddTo(row, values, row.OutputElements, call.QueryFormat, lane, keys);
        });
    }
}
