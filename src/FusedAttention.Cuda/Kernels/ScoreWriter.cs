using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// What happens to a score between the product of query and key and its weight: the steps of <see cref="ScoreLaw"/>, an instruction or a few each. A key that a row may not see has the score negative
/// infinity, and weight 0.
/// </summary>
/// <remarks>
/// Scores are kept in units of the natural logarithm if something is added to them, else as the bare products, which saves a multiplication a score. Weights are <c>exp2((s - m) * factor)</c>.
/// </remarks>
internal static class ScoreWriter
{
    private const float Log2E = 1.44269504088896340736f;

    private const float TanhBound = 7.9f;

    /// <summary>Up to where <see cref="TanhOfSmall"/> is right.</summary>
    public const float SmallTanh = 0.375f;

    /// <summary>2^-16, whose seventh power is 2^-112.</summary>
    private const float LeastSeriesScale = 1 / 65536f;

    private static ReadOnlySpan<float> TanhSeries => [0.99999994f, -0.333319753f, 0.132845014f, -0.0482722633f];

    private static ReadOnlySpan<float> TanhNumerator => [1f, 0.131281301f, 0.00315364543f, 1.16894971e-05f, -2.25253665e-08f, 6.48276779e-11f, -1.19242656e-13f];

    private static ReadOnlySpan<float> TanhDenominator => [1f, 0.4646146f, 0.0246918779f, 0.000261932815f];

    private const CallFeatures Modifying = CallFeatures.SoftCap | CallFeatures.Bias | CallFeatures.Alibi | CallFeatures.ScoreFunction;

    /// <summary>Whether scores are in units of the natural logarithm.</summary>
    public static bool HasNaturalScores(in KernelTraits traits) => (traits.Features & Modifying) != CallFeatures.None;

    /// <summary>Whether scores change between product and exponential even where every key is in reach.</summary>
    public static bool ModifiesScores(in KernelTraits traits) => (traits.Features & (Modifying | CallFeatures.Mask | CallFeatures.MaskFunction)) != CallFeatures.None;

    /// <summary>Natural logarithms in a unit of scores.</summary>
    public static F32 Unit(CallReader call) => HasNaturalScores(call.Traits) ? 1 : call.Scale;

    /// <summary>Powers of two in a unit of scores.</summary>
    public static F32 Factor(CallReader call) => HasNaturalScores(call.Traits) ? Log2E : call.Scale * Log2E;

    /// <summary>The score of a key that is in the row's reach.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="row">The row; null where nothing of it is asked for.</param>
    /// <param name="product">Of query and key.</param>
    /// <param name="key">The key's position.</param>
    /// <param name="distance">The query's position less the key's; null without ALiBi.</param>
    /// <param name="isSeen">Whether the mask, or where there is none the mask function, has the key; null: that is looked up.</param>
    /// <param name="bias">The key's bias; null: that is looked up.</param>
    public static F32 ScoreOf(PtxKernel k, CallReader call, RowReader? row, F32 product, I32 key, F32? distance, Predicate? isSeen = null, F32? bias = null) =>
        ScoreOf(k, call, row, product, key, distance, isSeen, bias, RowFunctions.Of(k, call, row, key), 0);

    /// <summary>Takes products of one row with several keys through the steps, in place.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="row">The row; null where nothing of it is asked for.</param>
    /// <param name="products">The registers, and how far their keys are behind <paramref name="first"/>.</param>
    /// <param name="first">A key.</param>
    /// <param name="sees">Whether the mask, or where there is none the mask function, has a key, by its column; null: that is looked up.</param>
    /// <param name="biasOf">The bias of a key, by its column; null: that is looked up.</param>
    public static void Modify(PtxKernel k, CallReader call, RowReader? row, (F32 Score, int Column)[] products, I32 first, Func<int, Predicate>? sees = null, Func<int, F32>? biasOf = null)
    {
        if (!ModifiesScores(call.Traits)) return;
        Action<F32, int> modify = Modifier(k, call, row, first, sees, biasOf);
        foreach ((F32 score, int column) in products) modify(score, column);
    }

    /// <summary>Takes one product of a row after the other through the steps.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="row">The row; null where nothing of it is asked for.</param>
    /// <param name="first">A key.</param>
    /// <param name="sees">Whether the mask, or where there is none the mask function, has a key, by its column; null: that is looked up.</param>
    /// <param name="biasOf">The bias of a key, by its column; null: that is looked up.</param>
    /// <param name="ofTile">What the tile has of a step of the score function, by its column; null: nothing.</param>
    /// <returns>Gets the register and how far its key is behind <paramref name="first"/>.</returns>
    public static Action<F32, int> Modifier(
        PtxKernel k, CallReader call, RowReader? row, I32 first, Func<int, Predicate>? sees = null, Func<int, F32>? biasOf = null, Func<int, int, F32?>? ofTile = null)
    {
        KernelTraits traits = call.Traits;
        F32? distance = row?.Slope is null ? null : (row.Position - first.Widen()).ToF32();
        RowFunctions? functions = RowFunctions.Of(k, call, row, first, ofTile);
        bool reads = (traits.Has(CallFeatures.Mask) && sees is null) || (traits.Has(CallFeatures.Bias) && biasOf is null);
        return (score, column) =>
        {
            // Masks and biases have an element for each key of the sequence: beyond the row's last one the nearest is read.
            I32 key = first + column;
            if (reads) key = I32.Max(I32.Min(key, row!.End - 1), 0);
            score.Set(ScoreOf(k, call, row, score, key, distance is null ? null : distance - (float)column, sees?.Invoke(column), biasOf?.Invoke(column), functions, column));
        };
    }

    private static F32 ScoreOf(
        PtxKernel k, CallReader call, RowReader? row, F32 product, I32 key, F32? distance, Predicate? isSeen, F32? bias, RowFunctions? functions, int column)
    {
        var steps = new Steps(k, call, row, product, key, distance, isSeen, bias, functions, column);
        ScoreLaw.Apply(ref steps, StepsOf(call.Traits));
        return steps.Score();
    }

    /// <summary>Negative infinity in place of scores whose keys are out of the row's reach.</summary>
    public static void Hide(RowReader row, (F32 Score, int Column)[] scores, I32 first)
    {
        I32 start = (first - row.Start).As("reach_offset"), reach = row.End - row.Start;
        Predicate isEmpty = reach <= 0;
        I32 length = I32.Select(isEmpty, 0, reach);
        foreach ((F32 score, int column) in scores) score.Set(F32.Select((start + column).IsBelow(length), score, float.NegativeInfinity));
    }

    /// <summary>What is subtracted from scores. A row that has seen nothing subtracts zero, so that its scores, all negative infinity, get the weight 0 and not exp2(NaN).</summary>
    public static F32 BaseOf(F32 maximum) => F32.Select(maximum.Is(float.NegativeInfinity), 0, maximum);

    /// <summary>Subtracts before scaling: the largest weight is exactly 1, and logits of 4e4 keep their accuracy.</summary>
    public static F32 WeightOf(F32 score, F32 @base, F32 factor) => ((score - @base) * factor).Exp2();

    /// <summary>The steps that a call has.</summary>
    public static ScoreSteps StepsOf(in KernelTraits traits) =>
        (traits.Has(CallFeatures.SoftCap) ? ScoreSteps.SoftCap : ScoreSteps.None) | (traits.Has(CallFeatures.Bias) ? ScoreSteps.Bias : ScoreSteps.None)
        | (traits.Has(CallFeatures.Alibi) ? ScoreSteps.Alibi : ScoreSteps.None) | (traits.Has(CallFeatures.Mask) ? ScoreSteps.Mask : ScoreSteps.None)
        | (traits.Has(CallFeatures.ScoreFunction) ? ScoreSteps.Function : ScoreSteps.None) | (traits.Has(CallFeatures.MaskFunction) ? ScoreSteps.MaskFunction : ScoreSteps.None);

    /// <summary>
    /// x P(x^2) / Q(x^2) of degrees 13 and 6, fitted to 3e-7 relatively up to 7.9, where tanh is 1 to half a unit: a dozen multiply-adds and one reciprocal, which run beside products, where two
    /// exponentials do not. tanh.approx has 11 bits, too few for soft caps of 50.
    /// </summary>
    public static F32 Tanh(F32 x)
    {
        F32 bounded = F32.From("min.NaN.f32", F32.From("max.NaN.f32", x, (F32)(-TanhBound)), (F32)TanhBound);
        F32 square = bounded * bounded;
        return bounded * Polynomial(square, TanhNumerator) * Polynomial(square, TanhDenominator).ReciprocalApproximately();
    }

    /// <summary>
    /// Whether <see cref="TanhOfSmall"/> holds a scale: the seventh power of it stays a normal number, as it does not with caps of 1e-6 or 1e6 beside a scale of 0.1. (As a limit that is negative where it does not,
    /// it cost the wgmma kernel a register that it does not have.)
    /// </summary>
    public static Predicate HasSeries(F32 scale)
    {
        F32 size = scale.Abs();
        return (size >= LeastSeriesScale) & (size <= 1 / LeastSeriesScale);
    }

    /// <summary>
    /// x P(x^2) of degree 7 for x = <paramref name="scale"/> times a product, fitted to 1.5e-7 relatively up to 0.375: scores below three eighths of the cap, as nearly all are. The scale is in the coefficients, which
    /// are the same for all products: five operations each. For scales that <see cref="HasSeries"/>.
    /// </summary>
    public static Func<F32, F32> TanhOfSmall(F32 scale)
    {
        F32 square = scale * scale, power = scale;
        var coefficients = new F32[TanhSeries.Length];
        for (int i = 0; i < coefficients.Length; i++, power *= square) coefficients[i] = power * TanhSeries[i];
        return product =>
        {
            F32 of = product * product, sum = coefficients[^1];
            for (int i = coefficients.Length - 2; i >= 0; i--) sum = F32.MultiplyAdd(sum, of, coefficients[i]);
            return product * sum;
        };
    }

    private static F32 Polynomial(F32 x, ReadOnlySpan<float> coefficients)
    {
        F32 sum = F32.MultiplyAdd(x, coefficients[^1], coefficients[^2]);
        for (int i = coefficients.Length - 3; i >= 0; i--) sum = F32.MultiplyAdd(sum, x, coefficients[i]);
        return sum;
    }

    private struct Steps(PtxKernel k, CallReader call, RowReader? row, F32 product, I32 key, F32? distance, Predicate? isSeen, F32? keyBias, RowFunctions? functions, int column) : IScoreSteps
    {
        private F32 _score = product;
        private Predicate? _isHidden;

        public void Scale()
        {
            if (HasNaturalScores(call.Traits) && !ScalesWithBias) _score *= call.Scale;
        }

        public void SoftCap() => _score = call.SoftCap * Tanh(_score * call.SoftCap.Reciprocal());

        public void Bias()
        {
            F32 bias = keyBias ?? k.LoadElement(CallReader.FormatOf(call.Traits.BiasType), row!.Bias! + (key.Widen() * BiasBytes()));
            Predicate isHiding = bias.Is(float.NegativeInfinity);
            // A bias of the most negative float may not become an infinity, which would hide the key: NaN passes.
            F32 sum = ScalesWithBias ? F32.MultiplyAdd(_score, call.Scale, bias) : _score + bias;
            _score = F32.From("max.NaN.f32", sum, (F32)float.MinValue);

            // A function has the last word.
            if (functions?.Score is null) Hide(isHiding);
            else _score = F32.Select(isHiding, float.NegativeInfinity, _score);
        }

        public void Alibi() => _score = F32.MultiplyAdd(-row!.Slope!, distance!.Abs(), _score);

        public void Function() => _score = functions!.Score!.ScoreOf(_score, column);

        public void Mask() => Hide(isSeen is null ? k.LoadByte(row!.Mask! + key.Widen()).Is(0) : !isSeen);

        public void MaskFunction() => Hide(!(isSeen is null || call.Traits.Has(CallFeatures.Mask) ? functions!.Keep!.Keeps(column) : isSeen));

        public readonly F32 Score() => _isHidden is null ? _score : F32.Select(_isHidden, float.NegativeInfinity, _score);

        /// <summary>Without a soft cap the scale and the bias are one instruction.</summary>
        private readonly bool ScalesWithBias => call.Traits.Has(CallFeatures.Bias) && !call.Traits.Has(CallFeatures.SoftCap);

        private readonly long BiasBytes() => call.Traits.BiasType == AttentionElementType.Float32 ? 4 : 2;

        private void Hide(Predicate condition) => _isHidden = _isHidden is null ? condition : _isHidden | condition;
    }
}
