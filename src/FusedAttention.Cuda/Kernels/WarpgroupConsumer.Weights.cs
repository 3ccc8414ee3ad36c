using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <content>From the scores of a tile to its weights.</content>
internal sealed partial class WarpgroupConsumer
{
    /// <summary>How large the sum of a lane's weights of a tile may become: binary16 ends at 65,504.</summary>
    private const float MostWeight = 4096;

    /// <summary>Growth of a row's maximum, in powers of two, up to which no sum passes <see cref="MostWeight"/>: a lane has at most 44 of a row's weights of a tile, each up to 2^6.</summary>
    private const float SurelySmall = 6;

    /// <summary>Growth beyond which a single weight does.</summary>
    private const float SurelyLarge = 12.5f;

    /// <summary>Weights of a whole tile by the maximum that each row has.</summary>
    /// <remarks>Where all is well it leaves by itself: of a condition that is asked later the assembler would not know that no product is under way, and would let them run one after the other.</remarks>
    private void Speculate(I32 key, Action leave)
    {
        if (IsStraight) _k.WaitForProducts(1);
        if (_biases is not null) AddBiases();
        F32[] sums = HasTileNumbers ? WeighTogether(key) : [.. _row.Select((row, r) =>
        {
            RowWeights weights = WeightsOf(row, key, _reference[r], isLeft: true, _masks?.Sees(r));
            if (_biases is null) weights.Prepare(RowOf(r), isWhole: true);
            return Weigh(r, weights.Weights());
        })];
        _k.WaitForProducts(0);
        Release(_memory.ValuesEmpty, _values);
        Pack();
        _k.If(!IsInWarpgroup(!(sums[0] <= MostWeight) | !(sums[1] <= MostWeight)), () =>
        {
            for (int r = 0; r < sums.Length; r++) _sum[r].Add(sums[r]);
            leave();
        });
        IssueScoresAgain();
        _k.CommitProducts();
        _k.WaitForProducts(0);
    }

    /// <summary>Weights of a tile some of whose rows need a new maximum, or do not see all of it; m, l and O are brought up to date.</summary>
    private void Renew(I32 key, Predicate isWhole)
    {
        if (HasTileNumbers) PrepareTogether(key, _maximum, isLeft: false);
        else for (int r = 0; r < _row.Length; r++) WeightsOf(_row[r], key, _maximum[r], isLeft: false, _masks?.Sees(r), _biases?.Of(r)).Prepare(RowOf(r), isWhole: false);
        if (_masks is null) HideUnreached(key);
        F32[] largest = [LargestOf(0), LargestOf(1)];
        Predicate[] isNew = AreNew(key, largest);
        F32[] rescale = [.. isNew.Select((isNewRow, r) =>
        {
            RowWeights weights = WeightsOf(_row[r], key, _maximum[r], isLeft: false);
            F32 maximum = F32.Select(isNewRow, RowWeights.Largest(_call, _maximum[r], largest[r]), _maximum[r]);
            F32 factor = F32.Select(isNewRow, RowWeights.Rescale(_call, _maximum[r], maximum, _factor), 1);
            _maximum[r].Set(maximum);
            _reference[r].Set(F32.Select(RowWeights.MayGoBy(_call, maximum, _factor), maximum, float.NaN));
            _sum[r].Set(F32.MultiplyAdd(_sum[r], factor, Weigh(r, weights.WeightsBy(maximum, isNewRow, largest[r]))));
            return factor;
        })];
        _k.WaitForProducts(0);

        // What was redone has given its values back.
        _k.If(!isWhole & key.IsNot(_lastTile), () => Release(_memory.ValuesEmpty, _values));
        Pack();
        // Of an item's first tile there is nothing yet to bring up to date.
        _k.If(_k.Any(rescale[0].IsNot(1) | rescale[1].IsNot(1)) & key.IsNot(_lastTile), () =>
        {
            for (int i = 0; i < _outputs.Length; i++) _outputs[i].Multiply(rescale[i >> 1 & 1]);
        });
        _isWarm?.Set(!IsInWarpgroup(HasNoReference()));
    }

    private F32[] WeighTogether(I32 key) => [.. PrepareTogether(key, _reference, isLeft: true).Select((row, r) => Weigh(r, row.Weights()))];

    private RowWeights[] PrepareTogether(I32 key, F32[] maximum, bool isLeft)
    {
        var numbers = new TileNumberLoads(_k, _call, _tile.Lookups.Numbers, _tile.Rows, _tile.Keys, _memory.Lookups!.Numbers(_keys.Index), _rowOfLane, _row.Length, _lane);
        RowWeights[] rows = [.. _row.Select((row, r) => WeightsOf(row, key, maximum[r], isLeft, _masks?.Sees(r), ofTile: numbers.OfRow(r)))];
        RowWeights.PrepareTogether(rows, [.. rows.Select((_, r) => RowOf(r))]);
        return rows;
    }

    private void HideUnreached(I32 key)
    {
        I32 firstKey = FirstKeyOfLane(key);
        _k.If((key < _wholeStart) | (key + _tile.Keys > _wholeEnd), () =>
        {
            RowReader?[] row = _rowsAgain?.Invoke() ?? _row;
            for (int r = 0; r < row.Length; r++) ReachWords.Hide((row[r]?.Start ?? _wholeStart) - firstKey, (row[r]?.End ?? _wholeEnd) - firstKey, RowOf(r));
        });
    }

    /// <summary>
    /// Which rows get a new maximum: those without one, and those of which a lane's sum of weights by the old one is too large. The largest score tells that of nearly all; where it does not for some row of the
    /// warp, sums are formed.
    /// </summary>
    private Predicate[] AreNew(I32 key, F32[] largest)
    {
        F32[] growth = [.. largest.Select((score, r) => RowWeights.Growth(_call, _maximum[r], score, _factor))];
        Predicate[] isNew = [.. growth.Select((power, r) =>
        {
            Predicate variable = _k.Variable($"is_new{r}", value: false);
            variable.Set(power > SurelySmall);
            return variable;
        })];
        Predicate isInDoubt = growth.Select(static power => (power > SurelySmall) & (power <= SurelyLarge)).Aggregate(static (a, b) => a | b);
        _k.If(_k.Any(isInDoubt), () =>
        {
            for (int r = 0; r < _row.Length; r++)
            {
                Func<F32, int, F32> stale = WeightsOf(_row[r], key, _maximum[r], isLeft: false).Weights();
                F32 sum = Sum(RowOf(r).Select(element => stale(element.Score, element.Column)));
                I32 isTooLarge = I32.Select((!(sum <= MostWeight)).InRegister() | _maximum[r].Is(float.NegativeInfinity), 1, 0);
                for (int bit = 1; bit < 4; bit *= 2) isTooLarge |= _k.ShuffleXor(isTooLarge, bit);
                isNew[r].Set(isTooLarge.IsNot(0));
            }
        });
        return isNew;
    }

    /// <summary>The largest score of a row, or the largest of those that are numbers.</summary>
    private F32 LargestOf(int r)
    {
        // Four chains: a single one would wait for each of its steps.
        F32[] scores = [.. RowOf(r).Select(static element => element.Score)], chains = scores[..4];
        for (int i = 4; i < scores.Length; i++) chains[i % 4] = F32.Max(chains[i % 4], scores[i]);
        return _k.Max(F32.Max(F32.Max(chains[0], chains[1]), F32.Max(chains[2], chains[3])), 1, 4);
    }

    /// <summary>Whether one of the lane's rows has no maximum that weights of whole tiles may go by.</summary>
    private Predicate HasNoReference() => _reference[0].IsNot(_reference[0]) | _reference[1].IsNot(_reference[1]);

    /// <summary>Scores of a tile that is speculated on, in natural logarithms.</summary>
    private void AddBiases()
    {
        (F32 Score, int Column)[][] rows = [RowOf(0), RowOf(1)];
        _biases!.AddTo(rows);
        for (int r = 0; r < rows.Length && _masks is not null; r++)
        {
            Func<int, Predicate> sees = _masks.Sees(r);
            foreach ((F32 score, int column) in rows[r]) score.Set(F32.Select(sees(column), score, float.NegativeInfinity));
        }
    }

    private RowWeights WeightsOf(RowReader? row, I32 key, F32 maximum, bool isLeft, Func<int, Predicate>? sees = null, Func<int, F32>? biasOf = null, Func<int, int, F32?>? ofTile = null) =>
        new(_k, _call, row, FirstKeyOfLane(key), _factor, maximum, isLeft ? null : key + (_tile.Keys - 1), sees, biasOf, ofTile);

    private I32 FirstKeyOfLane(I32 key) => key + ((_lane & 3) << 1);

    /// <summary>The lane's scores of its row g, or g + 8, and how far their keys are behind the lane's first.</summary>
    private (F32 Score, int Column)[] RowOf(int r) =>
        [.. Enumerable.Range(0, _scores.Length / 2).Select(i => (_scores[(i / 2 * 4) + (2 * r) + (i & 1)], (i / 2 * 8) + (i & 1)))];

    /// <summary>Puts weights in the place of a row's scores, and returns the lane's sum of them.</summary>
    private F32 Weigh(int r, Func<F32, int, F32> weightOf)
    {
        foreach ((F32 score, int column) in RowOf(r)) score.Set(weightOf(score, column));
        return Sum(RowOf(r).Select(static element => element.Score));
    }

    /// <summary>Two sums side by side, always in this order: what is decided by a sum is decided alike wherever it is formed.</summary>
    private static F32 Sum(IEnumerable<F32> weights)
    {
        var halves = new F32?[2];
        int count = 0;
        foreach (F32 weight in weights)
        {
            int half = count++ & 1;
            halves[half] = halves[half] is { } sum ? sum + weight : weight;
        }

        return halves[0]! + halves[1]!;
    }

    /// <summary>Sums of 16 columns, rounded, are a left factor.</summary>
    private void Pack()
    {
        for (int i = 0; i < _weights.Length; i++) _weights[i].SetRounded(Format, _scores[2 * i], _scores[(2 * i) + 1]);
    }
}
