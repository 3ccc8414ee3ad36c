using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The end of a decode item: the warps' m, l and O are brought together in shared memory, and splits in device memory, each in a fixed order.</summary>
internal sealed class DecodeSums(
    PtxKernel k, CallReader call, WorkPlace place, DecodeTile tile, I32 lane, I32 warp, I32 thread, F32 unit, F32 factor)
{
    /// <summary>Of the head of shared memory: m and l of each warp and row, behind what <see cref="SpecialValues"/> has.</summary>
    private const int StatisticsOffset = 64;

    /// <summary>Splits that lanes look after at a time, one each.</summary>
    private const int SplitsOfRound = 32;

    private readonly SequenceReader _sequence = place.Sequence;
    private readonly ItemReader _item = place.Item;
    private readonly I32 _head = place.Head;
    private readonly I32 _rows = place.Item.EndRow - place.Item.FirstRow;

    private int Columns => call.Traits.ValueDim;

    /// <summary>Columns of a lane: pairs, 64 columns apart.</summary>
    private int PairsOfLane => (Columns + 63) / 64;

    private Shared Sums => k.SharedMemory + tile.HeadBytes;

    public void Combine(F32[] outputs, F32[] maximum, F32[] sum, Predicate isCareful, SpecialValues specials)
    {
        Leave(outputs, maximum, sum);
        k.Barrier();
        k.For("row", warp, _rows, tile.Warps, local =>
        {
            RowReader row = place.RowAt(_item.FirstRow + local);
            (F32 m, F32 l, F32[] o) = OfWarps(local);
            I64 partial = PartialRows.Of(call, _sequence, _item.Partial, _head, _item.FirstRow + local);
            k.If(_item.Partial < 0, () => Store(row, m, l, o), () =>
            {
                StorePairs(PartialRows.Outputs(call, partial), ElementFormat.Float32, o, null);
                k.If(lane.Is(0), () => k.StoreVector(PartialRows.Statistics(call, partial), m, l));
            });
            k.If(isCareful, () =>
            {
                k.WarpBarrier();
                KeyRows values = KeyRows.Values(k, call, _sequence, _head);
                k.If(
                    _item.Partial < 0,
                    () => specials.AddTo(row, values, row.OutputElements, call.QueryFormat, lane),
                    () => specials.AddTo(row, values, PartialRows.Outputs(call, partial), ElementFormat.Float32, lane));
            });
        });
        k.If(_item.Splits > 1, () => k.If(
            SplitArrival.IsLast(k, call, place, thread),
            () => k.For("merged_row", warp, _rows, tile.Warps, local => Merge(place.RowAt(_item.FirstRow + local), _item.FirstRow + local))));
    }

    /// <summary>Each warp leaves its sums in shared memory.</summary>
    private void Leave(F32[] outputs, F32[] maximum, F32[] sum)
    {
        I32 g = lane >>> 2, q = lane & 3;
        for (int r = 0; r < 2; r++)
        {
            F32 whole = k.Sum(sum[r], 1, 4);
            I32 row = I32.MultiplyAdd(warp, DecodeTile.Rows, g + (8 * r));
            k.If(q.Is(0), () => k.StoreVector(k.SharedMemory + StatisticsOffset + (row << 3), maximum[r], whole));
            Shared to = Sums + I32.MultiplyAdd(row, Columns * 4, q << 3);
            for (int column = 0; column < Columns; column += 8)
                k.StoreVector(to + (column * 4), outputs[(column / 2) + (2 * r)], outputs[(column / 2) + (2 * r) + 1]);
        }
    }

    /// <summary>A row's sums over all warps: in the lane's columns.</summary>
    private (F32 Maximum, F32 Sum, F32[] Outputs) OfWarps(I32 local)
    {
        var statistics = new F32[tile.Warps][];
        for (int w = 0; w < tile.Warps; w++) statistics[w] = k.LoadVector<F32>(k.SharedMemory + StatisticsOffset + (w * DecodeTile.Rows * 8) + (local << 3), 2);
        F32 m = statistics.Select(static s => s[0]).Aggregate(F32.Max);
        F32 @base = ScoreWriter.BaseOf(m);
        var outputs = new F32[2 * PairsOfLane];
        F32? l = null;
        for (int w = 0; w < tile.Warps; w++)
        {
            F32 weight = ScoreWriter.WeightOf(statistics[w][0], @base, factor);
            l = l is null ? statistics[w][1] * weight : F32.MultiplyAdd(statistics[w][1], weight, l);
            Shared from = Sums + (w * DecodeTile.Rows * Columns * 4) + I32.MultiplyAdd(local, Columns * 4, lane << 3);
            ForPairs((pair, _) =>
            {
                F32[] two = k.LoadVector<F32>(from + (pair * 256), 2);
                for (int i = 0; i < 2; i++)
                {
                    ref F32 output = ref outputs[(2 * pair) + i];
                    if (w == 0)
                    {
                        output = F32.In(k);
                        output.Set(two[i] * weight);
                    }
                    else
                    {
                        output.AddProduct(two[i], weight);
                    }
                }
            });
        }

        return (m, l!, outputs);
    }

    /// <summary>One row, by a warp: lanes share the splits, then the columns.</summary>
    private void Merge(RowReader row, I32 index)
    {
        I64 stride = PartialRows.Stride(call, _sequence);
        I64 first = PartialRows.OfFirstSplit(call, _sequence, _item, _head, index);
        F32 largest = k.Variable("merged_m", float.NegativeInfinity);
        k.For("split", lane, _item.Splits, SplitsOfRound, split =>
            largest.Set(F32.Max(largest, k.Load<F32>(Statistics(first, stride, split)))));
        F32 m = k.Max(largest, 1, 32);
        F32 @base = ScoreWriter.BaseOf(m);

        F32 l = k.Variable("merged_l", (F32)0);
        F32[] outputs = k.Registers<F32>("merged_o", 2 * PairsOfLane);
        foreach (F32 output in outputs) output.Set(0);
        k.For("round", 0, _item.Splits, SplitsOfRound, round =>
        {
            I32 own = round + lane;
            F32 weight = F32.In(k), weightedSum = F32.In(k);
            weight.Set(0);
            weightedSum.Set(0);
            k.If(own < _item.Splits, () =>
            {
                F32[] statistics = k.LoadVector<F32>(Statistics(first, stride, own), 2);
                weight.Set(ScoreWriter.WeightOf(statistics[0], @base, factor));
                weightedSum.Set(statistics[1] * weight);
            });
            l.Add(k.Sum(weightedSum, 1, 32));
            I32 end = I32.Min(_item.Splits, round + SplitsOfRound);
            // Four splits at a time, so that their loads are under way together; those beyond the end load the last one again, and do not count.
            k.For("merged_split", round, end, 4, four =>
            {
                for (int i = 0; i < 4; i++)
                {
                    I32 split = I32.Min(four + i, end - 1);
                    AddPartial(outputs, PartialRows.Outputs(call, I64.MultiplyAdd(split.Widen(), stride, first)), k.ShuffleFrom(weight, split - round), four + i < end);
                }
            });
        });
        Store(row, m, l, outputs);
    }

    private void AddPartial(F32[] outputs, Global partial, F32 weight, Predicate counts)
    {
        Global from = partial + I64.Product(lane, 8);
        ForPairs((pair, _) =>
        {
            F32[] two = k.LoadVector<F32>(from + (pair * 256), 2);
            for (int i = 0; i < 2; i++)
            {
                // An infinite or undefined sum stays what it is whatever its weight, which may have become 0.
                F32 sum = F32.Select(counts, two[i], 0);
                outputs[(2 * pair) + i].AddProduct(sum, F32.Select(sum.IsFinite(), weight, 1));
            }
        });
    }

    private Global Statistics(I64 first, I64 stride, I32 split) => PartialRows.Statistics(call, I64.MultiplyAdd(split.Widen(), stride, first));

    /// <summary>Output and log-sum-exp of a row.</summary>
    private void Store(RowReader row, F32 maximum, F32 sum, F32[] outputs)
    {
        RowEnd end = RowEnd.Of(call, row, maximum, sum, unit);
        StorePairs(row.OutputElements, call.QueryFormat, outputs, end.Factor);
        if (call.Traits.Has(CallFeatures.LogSumExp)) k.If(lane.Is(0), () => row.StoreLogSumExp(end.LogSumExp));
    }

    private void StorePairs(Global to, ElementFormat format, F32[] values, F32? by)
    {
        Global mine = to + I64.Product(lane, format == ElementFormat.Float32 ? 8 : 4);
        ForPairs((pair, _) =>
        {
            F32 first = values[2 * pair], second = values[(2 * pair) + 1];
            if (by is not null) (first, second) = (first * by, second * by);
            if (format == ElementFormat.Float32) k.StoreVector(mine + (pair * 256), first, second);
            else k.Store(mine + (pair * 128), Pair.Of(format, first, second));
        });
    }

    /// <summary>For each of the lane's pairs of columns.</summary>
    private void ForPairs(Action<int, bool> body)
    {
        for (int pair = 0; pair < PairsOfLane; pair++)
        {
            int number = pair;
            if ((pair + 1) * 64 <= Columns) body(number, true);
            else k.If(lane < (Columns - (pair * 64)) / 2, () => body(number, false));
        }
    }
}
