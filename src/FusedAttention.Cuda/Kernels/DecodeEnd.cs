using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The end of a decode item: its rows' results are stored, or left as partial results, which the last of a sequence's items to end folds as a block folds its own.</summary>
internal sealed class DecodeEnd(PtxKernel k, CallReader call, WorkPlace place, DecodeTile tile, I32 lane, I32 warp, I32 thread, F32 unit, F32 factor)
{
    /// <summary>Partial results that a warp has in shared memory at a time, all of them copied together: a lane each for m and l. Two stages have room for as many.</summary>
    private const int PartsOfRound = 32;

    private readonly SequenceReader _sequence = place.Sequence;
    private readonly ItemReader _item = place.Item;
    private readonly I32 _head = place.Head;
    private readonly I32 _rows = place.Item.EndRow - place.Item.FirstRow;

    private int Columns => call.Traits.ValueDim;

    /// <summary>Columns of a lane that merges: pairs, 64 columns apart.</summary>
    private int PairsOfLane => (Columns + 63) / 64;

    /// <summary>Where a warp has its stages, which nobody needs any more.</summary>
    private Shared Parts => k.SharedMemory + tile.HeadBytes + (warp * ((tile.StagedBytes(call.Traits.KeyDim, Columns) - tile.HeadBytes) / tile.Warps));

    public void Write(LaneSums sums, Predicate isCareful, SpecialValues specials)
    {
        for (int r = 0; r < 2; r++)
        {
            int row = r;
            I32 index = _item.FirstRow + ((lane >>> 2) + (8 * r));
            k.If(index < _item.EndRow, () => k.If(_item.Partial < 0, () => StoreResult(index, sums, row), () => StorePartial(index, sums, row)));
        }

        k.If(isCareful, () => AddSpecials(specials));
        k.If(_item.Splits > 1, () => k.If(
            SplitArrival.IsLast(k, call, place, thread),
            () => k.For("merged_row", warp, _rows, tile.Warps, local => Merge(place.RowAt(_item.FirstRow + local), _item.FirstRow + local))));
    }

    private void StoreResult(I32 index, LaneSums sums, int r)
    {
        RowReader row = place.RowAt(index);
        RowEnd end = RowEnd.Of(call, row, sums.Maximum[r], sums.Sum[r], unit);
        Global mine = row.OutputElements + I64.Product(FirstColumn(), 2);
        ForColumns((block, offset) => k.Store(mine + (offset * 2), Pair.Of(call.QueryFormat, Result(sums.Outputs[block + (2 * r)], end), Result(sums.Outputs[block + (2 * r) + 1], end))));
        if (call.Traits.Has(CallFeatures.LogSumExp)) k.If((warp | (lane & 3)).Is(0), () => row.StoreLogSumExp(end.LogSumExp));
    }

    private void StorePartial(I32 index, LaneSums sums, int r)
    {
        I64 partial = PartialRows.Of(call, _sequence, _item.Partial, _head, index);
        Global mine = PartialRows.Outputs(call, partial) + I64.Product(FirstColumn(), 4);
        ForColumns((block, offset) => k.StoreVector(mine + (offset * 4), sums.Outputs[block + (2 * r)], sums.Outputs[block + (2 * r) + 1]));
        k.If((warp | (lane & 3)).Is(0), () => k.StoreVector(PartialRows.Statistics(call, partial), sums.Maximum[r], sums.Sum[r]));
    }

    /// <summary>The lane's first column; the others are so many blocks of eight behind it as there are warps.</summary>
    private I32 FirstColumn() => (warp << 3) + ((lane & 3) << 1);

    /// <summary>For each of the lane's blocks of columns: the first of its sums, and how many columns it is behind <see cref="FirstColumn"/>.</summary>
    private void ForColumns(Action<int, int> body)
    {
        int blocks = Columns / 8;
        for (int j = 0; j < tile.ColumnBlocks(Columns); j++)
        {
            int number = j;
            if ((j + 1) * tile.Warps <= blocks) body(4 * j, 8 * j * tile.Warps);
            else k.If(warp < blocks - (j * tile.Warps), () => body(4 * number, 8 * number * tile.Warps));
        }
    }

    /// <summary>Puts what rows see of infinite and undefined values into their results, when all warps have stored theirs.</summary>
    private void AddSpecials(SpecialValues specials)
    {
        k.Barrier();
        KeyRows values = KeyRows.Values(k, call, _sequence, _head);
        KeyRows? keys = call.Traits.Has(CallFeatures.ScoreFunction) ? KeyRows.Keys(k, call, _sequence, _head) : null;
        k.For("special_row", warp, _rows, tile.Warps, local =>
        {
            RowReader row = place.RowAt(_item.FirstRow + local);
            I64 partial = PartialRows.Of(call, _sequence, _item.Partial, _head, _item.FirstRow + local);
            k.If(
                _item.Partial < 0,
                () => specials.AddTo(row, values, row.OutputElements, call.QueryFormat, lane, keys),
                () => specials.AddTo(row, values, PartialRows.Outputs(call, partial), ElementFormat.Float32, lane, keys));
        });
    }

    /// <summary>One row, by a warp whose lanes share the columns: parts are folded into groups and groups into the whole, as <see cref="DecodeFold"/> does.</summary>
    private void Merge(RowReader row, I32 index)
    {
        I64 stride = PartialRows.Stride(call, _sequence);
        I64 first = PartialRows.OfFirstSplit(call, _sequence, _item, _head, index);
        // Parts begin at multiples of their size; so they begin a group where their number is a multiple of a group's parts.
        I32 firstNumber = (_item.FirstKey.ShiftRight(_item.PartShift) - _item.Split).As("first_part");
        I32 inGroup = I32.ShiftLeft(I32.InRegister(k, 1), _item.GroupShift - _item.PartShift) - 1;
        RowSums group = RowSums.In(k, "group", PairsOfLane), whole = RowSums.In(k, "whole", PairsOfLane);
        Predicate isWholeEmpty = k.Variable("is_whole_empty", value: true);
        void EndGroup()
        {
            k.If(isWholeEmpty, () => whole.Set(group), () => whole.Fold(group, factor));
            isWholeEmpty.Set(false);
        }

        k.For("round", 0, _item.Splits, PartsOfRound, round =>
        {
            I32 end = I32.Min(_item.Splits, round + PartsOfRound);
            CopyOutputs(first, stride, round, end);
            F32[] statistics = k.Registers<F32>("part_statistics", 2);
            foreach (F32 statistic in statistics) statistic.Set(0);
            k.If(round + lane < end, () => k.LoadVector(statistics, PartialRows.Statistics(call, I64.MultiplyAdd((round + lane).Widen(), stride, first))));
            k.WaitForCopies(0);
            k.WarpBarrier();
            k.For("part", round, end, 1, number =>
            {
                I32 local = number - round;
                var part = new RowSums(k.ShuffleFrom(statistics[0], local), k.ShuffleFrom(statistics[1], local), OutputsAt(Parts + I32.MultiplyAdd(local, Columns * 4, lane << 3)));
                k.If(
                    number.Is(0) | ((firstNumber + number) & inGroup).Is(0),
                    () =>
                    {
                        k.If(number.IsNot(0), EndGroup);
                        group.Set(part);
                    },
                    () => group.Fold(part, factor));
            });
            k.WarpBarrier();
        });
        EndGroup();
        StoreMerged(row, whole);
    }

    /// <summary>O of some parts, into shared memory: lanes share the vectors.</summary>
    private void CopyOutputs(I64 first, I64 stride, I32 round, I32 end)
    {
        int vectors = Columns / 4;
        k.For("vector", lane, (end - round) * vectors, 32, number =>
        {
            I32 part = I32.Quotient(number, vectors);
            Global from = PartialRows.Outputs(call, I64.MultiplyAdd((round + part).Widen(), stride, first));
            k.CopyAsync(Parts + (number << 4), from + I64.Product(number - (part * vectors), 16));
        });
        k.CommitCopies();
    }

    private F32[] OutputsAt(Shared from)
    {
        F32[] outputs = k.Registers<F32>("part_o", 2 * PairsOfLane);
        ForPairs(Load, pair =>
        {
            foreach (F32 output in outputs.AsSpan(2 * pair, 2)) output.Set(0);
            k.If(IsInside(pair), () => Load(pair));
        });
        return outputs;

        void Load(int pair) => k.LoadVector(outputs[(2 * pair)..(2 * (pair + 1))], from + (pair * 256));
    }

    private void StoreMerged(RowReader row, RowSums sums)
    {
        RowEnd end = RowEnd.Of(call, row, sums.Maximum, sums.Sum, unit);
        Global mine = row.OutputElements + I64.Product(lane, 4);
        void Store(int pair) => k.Store(mine + (pair * 128), Pair.Of(call.QueryFormat, Result(sums.Outputs[2 * pair], end), Result(sums.Outputs[(2 * pair) + 1], end)));
        ForPairs(Store, pair => k.If(IsInside(pair), () => Store(pair)));
        if (call.Traits.Has(CallFeatures.LogSumExp)) k.If(lane.Is(0), () => row.StoreLogSumExp(end.LogSumExp));
    }

    /// <summary>An infinite or undefined sum is not lost to a sink beside which the row counts for nothing: whole items have it put into their results, split ones come with it.</summary>
    private static F32 Result(F32 sum, RowEnd end) => sum * SplitFold.WeightFor(sum, end.Factor);

    /// <summary>For each of the lane's pairs of columns, those that all lanes have and one that some have.</summary>
    private void ForPairs(Action<int> whole, Action<int> ragged)
    {
        for (int pair = 0; pair < PairsOfLane; pair++) ((pair + 1) * 64 <= Columns ? whole : ragged)(pair);
    }

    private Predicate IsInside(int pair) => lane < (Columns - (pair * 64)) / 2;

    /// <summary>m, l and O of one row: in the lane's columns.</summary>
    private sealed record RowSums(F32 Maximum, F32 Sum, F32[] Outputs)
    {
        public static RowSums In(PtxKernel k, string name, int pairs) => new(F32.In(k).As($"{name}_m"), F32.In(k).As($"{name}_l"), k.Registers<F32>($"{name}_o", 2 * pairs));

        public void Set(RowSums other)
        {
            Maximum.Set(other.Maximum);
            Sum.Set(other.Sum);
            for (int i = 0; i < Outputs.Length; i++) Outputs[i].Set(other.Outputs[i]);
        }

        public void Fold(RowSums part, F32 factor)
        {
            (F32, F32) weights = SplitFold.Take(Maximum, Sum, part.Maximum, part.Sum, factor);
            for (int i = 0; i < Outputs.Length; i++) SplitFold.Take(Outputs[i], part.Outputs[i], weights);
        }
    }
}
