using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Scores and weights of a row over the keys of one tile, from what <see cref="Prepare"/> leaves of the products. A weight costs one multiply-add and the exponential, with ALiBi one more
/// multiply-add.
/// </summary>
/// <remarks>
/// <para>A score is the product s, or the hyperbolic tangent of the soft cap, and c takes it to powers of two. Weights are <c>exp2(s c - m c)</c> with one rounded product for all of a row, whose error all
/// weights share: below 2^-18 as long as m c is at most 128. Beyond that the largest weight would not round to 1 (the error is 2^-8 at logits of 4e4), and it is <c>exp2((s - m) c)</c>: a matter of the row
/// alone.</para>
/// <para>With ALiBi scores are in powers of two, and what <c>s c</c> less the slope times the distance is above the maximum that the row has, or above 0 where it has none: nothing is left to subtract as long as the row keeps its maximum,
/// and the same bits come of a tile that gives no row a new one and of one that gives another row one.</para>
/// <para>A score function takes and gives natural logarithms, which scores are in there, and c is log2(e). So it is with a bias, which may be as low as the most negative float, whose product with log2(e) would overflow. Where all scores are as low as that, m c is not at most 128.</para>
/// </remarks>
internal sealed class RowWeights
{
    private const float Log2E = 1.44269504088896340736f;
    private const float Ln2 = 0.693147180559945309417f;

    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly RowReader? _row;
    private readonly I32 _first;
    private readonly F32 _factor;
    private readonly F32 _maximum;
    private readonly I32? _lastKey;
    private readonly Predicate? _isLeft;
    private readonly F32? _slope;
    private readonly F32? _distance;
    private readonly F32? _base;
    private readonly Func<int, Predicate>? _sees;
    private readonly Func<int, F32>? _biasOf;
    private readonly Func<int, int, F32?>? _ofTile;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="row">The row; null where its scores are those of any other: without ALiBi, masks and biases.</param>
    /// <param name="first">The lane's first key of the tile, which columns are counted from.</param>
    /// <param name="factor">What <see cref="Factor"/> gives.</param>
    /// <param name="maximum">What the row has; where tiles are whole there is one, and one that weights may not go by can be told as NaN, which all weights then are.</param>
    /// <param name="lastKey">Of the tile: where some rows may stand in front of it, each row asks. Null: none does.</param>
    /// <param name="sees">Whether the mask, or where there is none the mask function, lets the row see a key, by its column; null: that is looked up.</param>
    /// <param name="biasOf">The bias of a key, by its column; null: that is looked up.</param>
    /// <param name="ofTile">What the tile has of a step of the score function, by its column; null: nothing.</param>
    public RowWeights(
        PtxKernel k, CallReader call, RowReader? row, I32 first, F32 factor, F32 maximum, I32? lastKey, Func<int, Predicate>? sees = null, Func<int, F32>? biasOf = null, Func<int, int, F32?>? ofTile = null)
    {
        (_k, _call, _row, _first, _factor, _maximum, _lastKey, _sees, _biasOf, _ofTile) = (k, call, row, first, factor, maximum, lastKey, sees, biasOf, ofTile);
        if (!HasDistance(call)) return;
        _slope = row!.Slope! * Log2E;
        _distance = (row.Position - first.Widen()).ToF32();
        _base = BaseOf(maximum);
        _isLeft = lastKey is null ? null : lastKey.Widen() <= row.Position;
    }

    /// <summary>Natural logarithms in a unit of scores.</summary>
    public static F32 Unit(CallReader call) => IsNatural(call) ? 1 : HasDistance(call) ? Ln2 : call.Traits.Has(CallFeatures.SoftCap) ? call.SoftCap : call.Scale;

    /// <summary>Powers of two in a unit of what is in registers.</summary>
    public static F32 Factor(CallReader call) => IsNatural(call) ? Log2E : (call.Traits.Has(CallFeatures.SoftCap) ? call.SoftCap : call.Scale) * Log2E;

    /// <summary>From products to what scores and weights are made of, in place: the soft cap, the masks, and with a bias or a score function everything.</summary>
    /// <param name="products">The registers, and how far their keys are behind the first.</param>
    /// <param name="isWhole">Whether the row may see all of the tile's keys by position.</param>
    public void Prepare((F32 Score, int Column)[] products, bool isWhole)
    {
        if (IsNatural(_call))
        {
            ScoreWriter.Modify(_k, _call, _row, products, _first, _sees, _biasOf);
            return;
        }

        var steps = new Preparation(this, products, isWhole);
        ScoreLaw.Apply(ref steps, ScoreWriter.StepsOf(_call.Traits));
    }

    /// <summary>The same of several rows of a lane, column by column: what they read of the tile's numbers is needed for some columns only, and not until the next row comes. With a score function.</summary>
    /// <param name="rows">The rows.</param>
    /// <param name="products">The registers of each, alike in columns.</param>
    public static void PrepareTogether(RowWeights[] rows, (F32 Score, int Column)[][] products)
    {
        Action<F32, int>[] modify = [.. rows.Select(static row => ScoreWriter.Modifier(row._k, row._call, row._row, row._first, row._sees, row._biasOf, row._ofTile))];
        for (int i = 0; i < products[0].Length; i++)
            for (int r = 0; r < rows.Length; r++) modify[r](products[r][i].Score, products[r][i].Column);
    }

    /// <summary>The weight relative to the maximum that the row has.</summary>
    public Func<F32, int, F32> Weights() => HasDistance(_call) ? static (score, _) => score.Exp2() : By(_maximum);

    /// <summary>The weight relative to another maximum.</summary>
    /// <param name="maximum">The maximum.</param>
    /// <param name="isNew">Whether it comes of this tile.</param>
    /// <param name="largest">The tile's largest score.</param>
    public Func<F32, int, F32> WeightsBy(F32 maximum, Predicate isNew, F32 largest)
    {
        if (!HasDistance(_call)) return By(maximum);

        // From 2^25 on, where steep slopes take scores, a maximum may be rounded to one that is more than 1 away from the largest score: the tile goes by the score, or all of its weights would be too large for any type, or 0.
        F32 risen = BaseOf(maximum) - _base!, own = ScoreWriter.BaseOf(largest);
        risen = F32.Select(isNew & !((risen - own).Abs() <= 1), own, risen);
        return (score, _) => (score - risen).Exp2();
    }

    /// <summary>Whether weights relative to a maximum may go by its rounded product, which tiles need that are whole.</summary>
    public static Predicate MayGoBy(CallReader call, F32 maximum, F32 factor)
    {
        Predicate isThere = maximum.IsNot(float.NegativeInfinity);
        return HasDistance(call) ? isThere : isThere & IsSmall(maximum, factor);
    }

    /// <summary>How many powers of two a score is above a maximum: infinite where there is no maximum yet, and NaN where there is no score either.</summary>
    public static F32 Growth(CallReader call, F32 maximum, F32 score, F32 factor) => HasDistance(call) ? score - (maximum - ScoreWriter.BaseOf(maximum)) : (score - maximum) * factor;

    /// <summary>The maximum of the keys before and of those whose largest score this is.</summary>
    public static F32 Largest(CallReader call, F32 maximum, F32 score) => F32.Max(maximum, HasDistance(call) ? ScoreWriter.BaseOf(maximum) + score : score);

    /// <summary>What brings sums from one maximum to a larger one.</summary>
    public static F32 Rescale(CallReader call, F32 from, F32 to, F32 factor)
    {
        F32 @base = ScoreWriter.BaseOf(to);
        return HasDistance(call) ? (from - @base).Exp2() : ((from - @base) * factor).Exp2();
    }

    private Func<F32, int, F32> By(F32 maximum)
    {
        F32 @base = BaseOf(maximum), less = -(@base * _factor);
        if (_lastKey is null) return (score, _) => F32.MultiplyAdd(score, _factor, less).Exp2();
        Predicate isSmall = IsSmall(@base, _factor);
        F32 subtracted = F32.Select(isSmall, 0, @base), rest = F32.Select(isSmall, less, 0);
        return (score, _) => F32.MultiplyAdd(score - subtracted, _factor, rest).Exp2();
    }

    private F32 BaseOf(F32 maximum) => _lastKey is null ? maximum : ScoreWriter.BaseOf(maximum);

    private static Predicate IsSmall(F32 maximum, F32 factor) => (maximum * factor).Abs() <= 128;

    private static bool IsNatural(CallReader call) => call.Traits.Has(CallFeatures.Bias | CallFeatures.ScoreFunction);

    private static bool HasDistance(CallReader call) => call.Traits.Has(CallFeatures.Alibi) && !IsNatural(call);

    /// <summary>
    /// To powers of two, with ALiBi's part. Up to the row's position that rises with the column, which is a constant of the instruction: counted from the last one, which is the nearest to the query, so that
    /// what a column adds has the sign of what was there, and nothing cancels (from the first one, a tile of 64 keys cost 4e-6 of a log-sum-exp). Where the tile reaches over the position, each key has its own
    /// distance. What a column adds comes after its product, or the assembler would compute it ahead for all columns, for which there are no registers.
    /// </summary>
    private void AddDistances((F32 Score, int Column)[] products)
    {
        int last = products.Max(static element => element.Column);
        F32 ofLast = F32.MultiplyAdd(-_slope!, _distance! - last, -_base!);
        foreach ((F32 score, int column) in products)
        {
            F32 left = F32.MultiplyAdd(score, _factor, ofLast);
            if (column != last) left = F32.MultiplyAdd(_slope!, column - last, left);
            score.Set(_isLeft is null ? left : F32.Select(_isLeft, left, F32.MultiplyAdd(-_slope!, (_distance! - column).Abs(), F32.MultiplyAdd(score, _factor, -_base!))));
        }
    }

    private void CapSoftly((F32 Score, int Column)[] products)
    {
        F32 scale = _call.Scale * _call.SoftCap.Reciprocal();
        Predicate hasSeries = ScoreWriter.HasSeries(scale);
        Func<F32, F32> small = ScoreWriter.TanhOfSmall(scale);
        Predicate isSmall = hasSeries & (products.Select(static element => element.Score.Abs()).Aggregate(F32.Max) * scale.Abs() <= ScoreWriter.SmallTanh);

        // Each element by its own size, so that neighbours cannot show in the bits.
        _k.If(_k.Any(!isSmall), () =>
        {
            foreach ((F32 score, int _) in products) score.Set(F32.Select(hasSeries & ((score * scale).Abs() <= ScoreWriter.SmallTanh), small(score), ScoreWriter.Tanh(score * scale)));
        }, () =>
        {
            foreach ((F32 score, int _) in products) score.Set(small(score));
        });
    }

    private void ApplyMask((F32 Score, int Column)[] products, bool isWhole)
    {
        foreach ((F32 score, int column) in products) score.Set(F32.Select(_sees?.Invoke(column) ?? IsSet(column, isWhole), score, float.NegativeInfinity));
    }

    private void ApplyMaskFunction((F32 Score, int Column)[] products)
    {
        Func<int, Predicate> keeps = _call.Traits.Has(CallFeatures.Mask) || _sees is null ? RowFunctions.Of(_k, _call, _row, _first)!.Keep!.Keeps : _sees;
        foreach ((F32 score, int column) in products) score.Set(F32.Select(keeps(column), score, float.NegativeInfinity));
    }

    /// <summary>Whether the mask has the key. A mask has an element for each key of the sequence: beyond the row's last one the nearest is read.</summary>
    private Predicate IsSet(int column, bool isWhole)
    {
        I32 key = _first + column;
        return _k.LoadByte(_row!.Mask! + (isWhole ? key : I32.Max(I32.Min(key, _row.End - 1), 0)).Widen()).IsNot(0);
    }

    /// <summary>The steps of the law that change registers ahead of the weights. The scale is in the weights' own expression, or in ALiBi's.</summary>
    private readonly struct Preparation(RowWeights row, (F32 Score, int Column)[] products, bool isWhole) : IScoreSteps
    {
        public void Scale()
        {
        }

        public void SoftCap() => row.CapSoftly(products);

        public void Bias() => throw new InvalidOperationException("Scores with a bias are in natural logarithms.");

        public void Alibi() => row.AddDistances(products);

        public void Function() => throw new InvalidOperationException("Scores with a function are in natural logarithms.");

        public void Mask() => row.ApplyMask(products, isWhole);

        public void MaskFunction() => row.ApplyMaskFunction(products);
    }
}
