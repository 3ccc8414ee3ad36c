using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <content>A tile: its scores, their weights, and what those add to the sums.</content>
internal sealed partial class PrefillKernel
{
    /// <summary>How large the sum of a lane's weights of a tile may become: binary16 ends at 65,504.</summary>
    private const float MostWeight = 4096;

    /// <summary>
    /// One tile. Weights are relative to the maximum of the tiles before as long as none of a lane's sums of them passes 2^12, which a 16-bit weight can still hold: no maximum is looked for, nothing is
    /// rescaled, and the exponentials run beside the products. Where a row's do, that row gets a new maximum: a matter of the row alone, so its neighbours cannot show in its bits.
    /// </summary>
    /// <param name="tile">As products read it.</param>
    /// <param name="stage">As it came.</param>
    /// <param name="key">Its first key.</param>
    /// <param name="isWhole">Whether weights are tried by the maximum that rows have.</param>
    /// <param name="copies">What is issued between its products if so.</param>
    private void AddTile(Shared tile, Shared stage, I32 key, Predicate isWhole, Func<Action[]>? copies)
    {
        F32[][] scores = [.. Enumerable.Range(0, Fragments).Select(m => _k.Registers<F32>($"s{m}_", _tile.KeysOfWarp / 2))];
        Pair[][][]? own = _pair is null ? null : [.. scores.Select((s, m) => (Pair[][])[.. Enumerable.Range(0, s.Length / 8).Select(slice => _k.Registers<Pair>($"w{m}_{slice}_", 4))])];
        Predicate isDone = _k.Variable("is_done", value: false);
        _k.If(isWhole, () =>
        {
            AddProducts(scores, tile, stage, copies?.Invoke());
            if (copies is not null) _k.CommitCopies();
            F32[] sums = WeighByMaximum(scores, stage, key);
            LeaveWeights(own, scores);
            Predicate isTooLarge = sums.Select(static sum => !(sum <= MostWeight)).Aggregate(static (a, b) => a | b);
            isDone.Set(!(_pair?.BarrierAny(isTooLarge) ?? _k.Any(isTooLarge)));
            if (_exactSum is { } exact)
            {
                _k.If(isDone, () =>
                {
                    for (int r = 0; r < sums.Length; r++) exact[r].Add(sums[r]);
                });
            }
        });
        _k.If(!isDone, () =>
        {
            AddProducts(scores, tile, stage);
            Prepare(scores, stage, key);
            Hide(scores, key);
            Renew(scores, key);
            LeaveWeights(own, scores);
            _pair?.Barrier();
        });
        AddWeightedValues(own ?? [.. scores.Select(s => MatrixSums.LeftFactors(_call.QueryFormat, s))], ValuesOf(tile));
    }

    /// <summary>Weights of a whole tile by the maximum that each row has, and each row's sum of the lane's.</summary>
    private F32[] WeighByMaximum(F32[][] scores, Shared stage, I32 key)
    {
        if (_tile.Numbers.Exist) return [.. PrepareTogether(scores, stage, key, isLeft: true).Select((row, r) => Weigh(scores, r, row.Weights()))];
        return [.. _row.Select((row, r) =>
        {
            RowWeights weights = WeightsOf(row, key, _maximum[r], isLeft: true, SeesOf(r));
            weights.Prepare(RowOf(scores, r), isWhole: true);
            return Weigh(scores, r, weights.Weights());
        })];
    }

    /// <summary>From products to scores, in a tile that some rows may not see whole.</summary>
    private void Prepare(F32[][] scores, Shared stage, I32 key)
    {
        if (_tile.Numbers.Exist)
        {
            PrepareTogether(scores, stage, key, isLeft: false);
            return;
        }

        for (int r = 0; r < _row.Length; r++) WeightsOf(_row[r], key, _maximum[r], isLeft: false, SeesOf(r)).Prepare(RowOf(scores, r), isWhole: false);
    }

    /// <summary>Of a pair, has the warp's weights ready, for itself and for the other warp.</summary>
    private void LeaveWeights(Pair[][][]? own, F32[][] scores)
    {
        if (own is null) return;
        for (int m = 0; m < own.Length; m++) MatrixSums.RoundInto(own[m], _call.QueryFormat, scores[m]);
        _pair!.LeaveWeights(own);
    }

    /// <summary>O += P V, and the sums of the weights. Of a pair, first what the warp's own weights add.</summary>
    private void AddWeightedValues(Pair[][][] weights, Shared values)
    {
        Pair[][][] all = weights;
        if (_pair is null)
        {
            MatrixSums.AddWeightedValues(_k, _call.QueryFormat, _outputs, weights, values, _valueLayout, _lane);
        }
        else
        {
            int bytes = _valueLayout.BytesOf(_tile.KeysOfWarp);
            Shared columns = values + (_pair.Half * (ColumnsOfWarp * 2));
            MatrixSums.AddWeightedValues(_k, _call.QueryFormat, _outputs, weights, columns + (_pair.Half * bytes), _valueLayout, _lane, ColumnsOfWarp);
            Pair[][][] others = _pair.TakeWeights();
            MatrixSums.AddWeightedValues(_k, _call.QueryFormat, _outputs, others, columns + (bytes - (_pair.Half * bytes)), _valueLayout, _lane, ColumnsOfWarp);
            all = [.. weights.Select((own, m) => (Pair[][])[.. own, .. others[m]])];
        }

        for (int m = 0; m < Fragments; m++)
        {
            (F32 row, F32 eightBelow) = MatrixSums.RowSums(_k, _call.QueryFormat, all[m]);
            _sum[2 * m].Add(row);
            _sum[(2 * m) + 1].Add(eightBelow);
        }
    }

    /// <summary>
    /// The two rows of a fragment together, which share what they read of the tile's numbers. Behind a barrier: without one the assembler reads them ahead of the products, and computes what of a function does not ask for the score for all
    /// columns, for which there are no registers (distances in a grid at D = 64: 396 bytes spilled, and none).
    /// </summary>
    private RowWeights[] PrepareTogether(F32[][] scores, Shared stage, I32 key, bool isLeft) => [.. Enumerable.Range(0, Fragments).SelectMany(m =>
    {
        _k.WarpBarrier();
        I32 firstRow = (_warp * _tile.RowsOfWarp) + (16 * m) + (_lane >>> 2);
        var numbers = new TileNumberLoads(_k, _call, _tile.Numbers, _tile.Rows, _tile.Keys, NumbersOf(stage), firstRow, 2, _lane);
        RowWeights[] rows = [.. Enumerable.Range(0, 2).Select(r => WeightsOf(_row[(2 * m) + r], key, _maximum[(2 * m) + r], isLeft, SeesOf((2 * m) + r), numbers.OfRow(r)))];
        RowWeights.PrepareTogether(rows, [RowOf(scores, 2 * m), RowOf(scores, (2 * m) + 1)]);
        return rows;
    })];

    /// <summary>What is known ahead of the keys that a row of the lane may see.</summary>
    private Func<int, Predicate>? SeesOf(int row) => _masks?.Sees(row) ?? _functions?.Sees(row);

    /// <summary>S = Q K^T, with the scales of keys.</summary>
    private void AddProducts(F32[][] scores, Shared keys, Shared stage, Action[]? between = null)
    {
        foreach (F32 score in scores.SelectMany(static s => s)) score.Set(0);
        Shared own = _pair is null ? keys : keys + (_pair.Half * _keyLayout.BytesOf(_tile.KeysOfWarp));
        MatrixSums.AddProducts(_k, _call.QueryFormat, scores, slice => _heldQueries?[slice] ?? LoadQueryFactors(slice), own, _keyLayout, _tile.KeysOfWarp, _lane, between);
        if (_codes is not { HasKeyScales: true }) return;
        for (int column = 0; column < _tile.Keys; column += 8)
        {
            F32[] scales = _codes.KeyScales(stage, ((_lane & 3) << 1) + column);
            foreach (F32[] sums in scores)
                for (int i = 0; i < 4; i++) sums[(column / 2) + i].Multiply(scales[i & 1]);
        }
    }

    private RowWeights WeightsOf(RowReader row, I32 key, F32 maximum, bool isLeft, Func<int, Predicate>? sees = null, Func<int, int, F32?>? ofTile = null) =>
        new(_k, _call, row, FirstKeyOfLane(key), _factor, maximum, isLeft ? null : key + (_tile.Keys - 1), sees, ofTile: ofTile);

    /// <summary>Negative infinity in place of scores whose keys are out of a row's reach.</summary>
    private void Hide(F32[][] scores, I32 key)
    {
        (I32 start, I32 end) = WholeRange();
        _k.If((key < start) | (key + _tile.Keys > end), () =>
        {
            // Asked for again where it is rare: registers for it would be missing in every tile.
            RowReader[] row = RowsOfLane(new(_k, _call));
            I32 firstKey = FirstKeyOfLane(key);
            for (int r = 0; r < row.Length; r++) ScoreWriter.Hide(row[r], RowOf(scores, r), firstKey);
        });
    }

    private I32 FirstKeyOfLane(I32 key) => _pair is null ? key + ((_lane & 3) << 1) : key + I32.MultiplyAdd(_pair.Half, _tile.KeysOfWarp, (_lane & 3) << 1);

    /// <summary>The lane's scores of its row number <paramref name="r"/>: fragment r / 2, row g or g + 8.</summary>
    private static (F32 Score, int Column)[] RowOf(F32[][] scores, int r) =>
        [.. Enumerable.Range(0, scores[0].Length / 2).Select(i => (scores[r / 2][(i / 2 * 4) + (2 * (r & 1)) + (i & 1)], (i / 2 * 8) + (i & 1)))];

    /// <summary>Puts weights in the place of a row's scores, and returns the lane's sum of them.</summary>
    private static F32 Weigh(F32[][] scores, int r, Func<F32, int, F32> weightOf)
    {
        foreach ((F32 score, int column) in RowOf(scores, r)) score.Set(weightOf(score, column));
        return Sum([.. RowOf(scores, r).Select(static element => element.Score)]);
    }

    /// <summary>Two sums side by side, always in this order: what is decided by a sum is decided alike wherever it is formed.</summary>
    private static F32 Sum(F32[] weights)
    {
        F32[] halves = [weights[0], weights[1]];
        for (int i = 2; i < weights.Length; i++) halves[i & 1] += weights[i];
        return halves[0] + halves[1];
    }

    /// <summary>A tile whose rows do not all go by the maximum that they have: those that do not get a new one, and m, l and O are brought up to date.</summary>
    private void Renew(F32[][] scores, I32 key)
    {
        for (int r = 0; r < _row.Length; r++)
        {
            RowWeights weights = WeightsOf(_row[r], key, _maximum[r], isLeft: false);
            (F32 Score, int Column)[] own = RowOf(scores, r);
            Func<F32, int, F32> stale = weights.Weights();
            F32 sum = Sum([.. own.Select(element => stale(element.Score, element.Column))]);
            I32 isTooLarge = I32.Select((!(sum <= MostWeight)).InRegister() | _maximum[r].Is(float.NegativeInfinity), 1, 0);
            for (int bit = 1; bit < 4; bit *= 2) isTooLarge |= _k.ShuffleXor(isTooLarge, bit);
            F32 largestOfRow = _k.Max(own.Select(static element => element.Score).Aggregate(F32.Max), 1, 4);
            if (_pair is not null)
            {
                (F32 largestOfOther, I32 isTooLargeToo) = _pair.Exchange(r, largestOfRow, isTooLarge);
                (largestOfRow, isTooLarge) = (F32.Max(largestOfRow, largestOfOther), isTooLarge | isTooLargeToo);
            }

            F32 largest = RowWeights.Largest(_call, _maximum[r], largestOfRow);
            Predicate isNew = isTooLarge.IsNot(0);
            F32 maximum = F32.Select(isNew, largest, _maximum[r]);
            F32 rescale = F32.Select(isNew, RowWeights.Rescale(_call, _maximum[r], maximum, _factor), 1);
            _maximum[r].Set(maximum);
            _sum[r].Multiply(rescale);
            F32 exact = Weigh(scores, r, weights.WeightsBy(maximum, isNew, largestOfRow));
            _exactSum?[r].Set(F32.MultiplyAdd(_exactSum[r], rescale, exact));
            F32[] outputs = _outputs[r / 2];
            for (int i = 0; i < outputs.Length; i++)
                if ((i >> 1 & 1) == (r & 1)) outputs[i].Multiply(rescale);
        }

        _isWarm.Set(!_k.Any(_maximum.Select(m => !RowWeights.MayGoBy(_call, m, _factor)).Aggregate(static (a, b) => a | b)));
    }
}
