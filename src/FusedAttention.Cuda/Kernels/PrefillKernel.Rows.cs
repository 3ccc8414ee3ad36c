using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <content>The two ends of an item: its queries and what its rows see, and its results.</content>
internal sealed partial class PrefillKernel
{
    /// <summary>Rows that a thread looks up at a time, at the two ends of an item: their latencies, a division and loads, overlap.</summary>
    private const int RowsTogether = 4;

    /// <summary>Queries go to shared memory; rows beyond the item's repeat its last one.</summary>
    private void LoadQueries()
    {
        var layout = new SharedRows(_call.Traits.KeyDim);
        var copies = new RowCopies(_k, layout, _tile.Rows, _tile.Threads, _thread);
        RowPlaces queries = RowPlaces.Queries(_call, _place.Sequence);
        int passes = _tile.Rows / copies.RowsOfPass, together = Math.Min(passes, RowsTogether);
        I32 shared = _k.Variable("query_row_address", _queries.ToI32());
        _k.For("query_row", _place.Item.FirstRow + copies.FirstRow, _place.Item.FirstRow + copies.FirstRow + _tile.Rows, together * copies.RowsOfPass, index =>
        {
            for (int pass = 0; pass < together; pass++)
            {
                (I32 query, I32 head) = _place.QueryOf(index + (pass * copies.RowsOfPass));
                copies.Copy(new(shared), pass, queries.Of(query, head) + copies.ChunkOffset.Widen(), isInside: null);
            }

            shared.Add(together * copies.RowsOfPass * layout.Stride);
        });
        _k.CommitCopies();
    }

    /// <summary>The lane's rows: g and g + 8 of each fragment.</summary>
    private RowReader[] RowsOfLane(WorkPlace place)
    {
        I32 first = (_rowSet * _tile.RowsOfWarp) + (_lane >>> 2);
        return [.. Enumerable.Range(0, 2 * Fragments).Select(i =>
        {
            I32 index = first + (8 * i);
            RowReader row = place.RowAt(place.Item.FirstRow + index);
            if (_tile.RowNumbers > 0) row.Numbers = _rowNumbers + (index * (_tile.RowNumbers * sizeof(float)));
            return row;
        })];
    }

    /// <summary>Computes what the score function has of each row alone, and leaves it: four lanes have the same rows.</summary>
    private void LeaveRowNumbers()
    {
        if (_tile.RowNumbers == 0) return;
        _k.If((_lane & 3).Is(0), () =>
        {
            foreach (RowReader row in _row) new RowFunction(FunctionBlock.OfScore(_k, _call.Traits), row, 0).LeaveNumbers(row.Numbers!);
        });
    }

    /// <summary>What the lane's rows see, and the warp's together.</summary>
    private void FindRanges()
    {
        _row = RowsOfLane(_place);
        LeaveRowNumbers();
        I32 OverLanes(Func<I32, I32, I32> choose, Func<RowReader, I32> of)
        {
            I32 value = _row.Select(of).Aggregate(choose);
            for (int bit = 4; bit < 32; bit *= 2) value = choose(value, _k.ShuffleXor(value, bit));
            return value;
        }

        I32 warpStart = OverLanes(I32.Min, static row => row.Start), warpEnd = OverLanes(I32.Max, static row => row.End), wholeStart = OverLanes(I32.Max, static row => row.Start);
        // With ALiBi only tiles that no row stands in front of are whole: distances fall by one a key there.
        I32 wholeEnd = OverLanes(I32.Min, row => row.Slope is null ? row.End : I32.Min(row.End, I64.Min(I64.Max(row.Position + 1, 0), int.MaxValue).ToI32()));
        _k.If(_lane.Is(0), () => _k.StoreVector(PlaceOfRanges, warpStart, warpEnd, wholeStart, wholeEnd));
        _k.WarpBarrier();
    }

    /// <summary>The warp's ranges, which are looked at some times a tile: in registers they were four too many at D = 128.</summary>
    private Shared PlaceOfRanges => _k.SharedMemory + PrefillTile.RangesOffset + (_warp << 4);

    /// <summary>The keys that all rows of the warp see.</summary>
    private (I32 Start, I32 End) WholeRange()
    {
        I32[] range = _k.LoadVector<I32>(PlaceOfRanges + (2 * sizeof(int)), 2);
        return (range[0], range[1]);
    }

    /// <summary>The sum of a row's weights before they were rounded, in all of its lanes.</summary>
    private F32 ExactSumOf(int r)
    {
        F32 sum = _k.Sum(_exactSum![r], 1, 4);
        return _pair is null ? sum : sum + _pair.Exchange(r, sum, 0).Number;
    }

    /// <summary>Rounded outputs go through the place of the warp's queries, from where whole rows are stored.</summary>
    private void StoreRows(Predicate isCareful)
    {
        var layout = new SharedRows(_call.Traits.ValueDim);
        I32 g = _lane >>> 2, q = _lane & 3;
        Shared ofRows = new((_queries + (_rowSet * (_tile.QueryBytes(_call.Traits.KeyDim, _call.Traits.ValueDim) / _tile.Warps * _tile.WarpsOfRows))).ToI32());
        I32? firstColumnBytes = _pair is null ? null : _pair.Half * (ColumnsOfWarp * 2);
        Shared ofWarp = firstColumnBytes is null ? ofRows : ofRows + firstColumnBytes;
        F32 unit = RowWeights.Unit(_call);
        var place = new WorkPlace(_k, _call);
        RowReader[] rowOf = RowsOfLane(place);
        for (int r = 0; r < rowOf.Length; r++)
        {
            RowEnd end = RowEnd.Of(_call, rowOf[r], _maximum[r], _sum[r], unit, _exactSum is null ? null : ExactSumOf(r));
            Shared to = ofWarp + I32.MultiplyAdd(g, layout.Stride, q << 2) + (r * 8 * layout.Stride);
            F32[] outputs = _outputs[r / 2];
            for (int column = 0; column < ColumnsOfWarp; column += 8)
            {
                int at = (column / 2) + (2 * (r & 1));
                _k.Store(to + (column * 2), Pair.Of(_call.QueryFormat, outputs[at] * end.Factor, outputs[at + 1] * end.Factor));
            }

            if (_call.Traits.Has(CallFeatures.LogSumExp))
            {
                I32 index = place.Item.FirstRow + (_rowSet * _tile.RowsOfWarp) + g + (8 * r);
                Predicate isMine = q.Is(0) & (index < place.Item.EndRow);
                _k.If(_pair is null ? isMine : isMine & _pair.Half.Is(0), () => rowOf[r].StoreLogSumExp(end.LogSumExp));
            }
        }

        _k.WarpBarrier();
        int chunks = ColumnsOfWarp / SharedRows.Chunk;
        I32 firstRow = place.Item.FirstRow + (_rowSet * _tile.RowsOfWarp);
        I32 rows = I32.Min(_tile.RowsOfWarp, place.Item.EndRow - firstRow);
        RowPlaces results = RowPlaces.Outputs(_call, place.Sequence);
        _k.For("chunk", _lane, rows * chunks, RowsTogether * 32, first =>
        {
            for (int i = 0; i < RowsTogether; i++)
            {
                // Chunks beyond the last one repeat it.
                I32 index = I32.Min(first + (32 * i), (rows * chunks) - 1);
                I32 row = I32.Quotient(index, chunks), offset = (index - (row * chunks)) << 4;
                I32[] elements = _k.LoadVector<I32>(ofWarp + I32.MultiplyAdd(row, layout.Stride, offset), 4);
                (I32 query, I32 head) = place.QueryOf(firstRow + row);
                _k.StoreVector(results.Of(query, head) + (firstColumnBytes is null ? offset : firstColumnBytes + offset).Widen(), elements);
            }
        });
        _k.If(isCareful, () =>
        {
            if (_pair is null) _k.WarpBarrier();
            else _pair.Barrier();
            KeyRows values = KeyRows.Values(_k, _call, place.Sequence, place.Head);
            KeyRows? keys = _call.Traits.Has(CallFeatures.ScoreFunction) ? KeyRows.Keys(_k, _call, place.Sequence, place.Head) : null;
            ScaleRows? scales = ScaleRows.Values(_k, _call, place.Sequence, place.Item.Sequence, place.Head);
            _k.For("careful_row", _pair?.Half ?? 0, rows, _tile.WarpsOfRows, row =>
            {
                RowReader reader = place.RowAt(firstRow + row);
                _specials.AddTo(reader, values, reader.OutputElements, _call.QueryFormat, _lane, keys, scales);
            });
        });
    }
}
