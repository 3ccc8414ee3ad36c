using System.Collections.Immutable;
using System.Globalization;

namespace FusedAttention;

/// <summary>
/// What to compute, apart from the tensors: immutable, checked when it is made, and free to be shared by any number of calls and threads. How the processor computes it is <see cref="CpuExecution"/>.
/// </summary>
/// <remarks>
/// The score of query <c>i</c> (position <c>p</c> on the key axis) and key <c>j</c> is built in this order:
/// <c>s = Scale * dot(q, k)</c>; <c>s = SoftCap * tanh(s / SoftCap)</c>; <c>s += bias</c>; <c>s -= AlibiSlopes[head] * |p - j|</c>; <see cref="ScoreFunction"/>; then the masks.
/// The weights are <c>exp(s)</c> over the sum of <c>exp(s)</c> of the allowed keys and, with a sink, <c>exp(SinkLogits[head])</c>.
/// </remarks>
public sealed partial record AttentionOptions
{
    /// <summary>Plain attention: full mask, scale 1/sqrt(dim).</summary>
    public static AttentionOptions Default { get; } = new();

    /// <summary>The factor on <c>dot(q, k)</c>: finite and positive. Null, the default, means 1/sqrt(key dimension).</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is NaN, infinite, zero or negative.</exception>
    public float? Scale
    {
        get;
        init => field = value is not float scale || (float.IsFinite(scale) && scale > 0)
            ? value
            : throw new ArgumentOutOfRangeException(nameof(Scale), value, "Scale must be finite and greater than 0, or null for 1/sqrt(key dimension).");
    }

    /// <summary>Causal mask and sliding window. The default is <see cref="AttentionMask.Full"/>.</summary>
    public AttentionMask Mask { get; init; }

    /// <summary>Where the queries lie on the key axis. The default is <see cref="AttentionAlignment.BottomRight"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not a member of the enumeration.</exception>
    public AttentionAlignment Alignment
    {
        get;
        init => field = value is AttentionAlignment.BottomRight or AttentionAlignment.TopLeft
            ? value
            : throw new ArgumentOutOfRangeException(nameof(Alignment), value, "Alignment must be BottomRight or TopLeft.");
    }

    /// <summary>
    /// The position on the key axis of query 0 of every sequence, instead of what <see cref="Alignment"/> says; may be negative.
    /// It lets a context that is split over several calls or machines keep its positions. Null, the default, leaves it to the alignment.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The magnitude is above 2^40.</exception>
    public long? QueryOffset
    {
        get;
        init => field = value is not long offset || Math.Abs((double)offset) <= MaxQueryOffset
            ? value
            : throw new ArgumentOutOfRangeException(nameof(QueryOffset), value, "QueryOffset must lie within +-2^40.");
    }

    /// <summary>
    /// ALiBi slopes, one per query head: each score loses <c>slope * |p - j|</c> (Press, Smith, Lewis 2021, arXiv:2108.12409).
    /// Empty or default: no ALiBi. <see cref="FusedAttention.AlibiSlopes.ForHeads"/> gives the paper's slopes for any number of heads. Distances count exactly; beyond 2^24, where 32-bit numbers cannot tell
    /// neighbours apart, the processor computes such rows in double precision, which is slow, and a GPU keeps 24 bits of them.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">A slope is NaN or infinite.</exception>
    public ImmutableArray<float> AlibiSlopes
    {
        get;
        init => field = CheckFinite(value, nameof(AlibiSlopes), allowNegativeInfinity: false);
    }

    /// <summary>Scores are squashed to <c>SoftCap * tanh(s / SoftCap)</c> (Gemma 2, arXiv:2408.00118). 0, the default, turns it off.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is NaN, infinite or negative.</exception>
    public float SoftCap
    {
        get;
        init => field = float.IsFinite(value) && value >= 0
            ? value
            : throw new ArgumentOutOfRangeException(nameof(SoftCap), value, "SoftCap must be finite and greater than 0, or 0 for none.");
    }

    /// <summary>
    /// Attention sinks: one extra logit per query head that takes weight and adds no value (arXiv:2309.17453; the learned form of gpt-oss).
    /// Neither scaled nor capped. Empty or default: none. Negative infinity is a sink without weight.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">A logit is NaN or positive infinity.</exception>
    public ImmutableArray<float> SinkLogits
    {
        get;
        init => field = CheckFinite(value, nameof(SinkLogits), allowNegativeInfinity: true);
    }

    /// <summary>
    /// A change to every score that the caller has written, as the last step before the masks; null, the default, for none. The processor has it as a part of its loops, the kernels of GPUs in their text.
    /// Whole numbers in a function are 32-bit floats, so positions and keys of a call reach 2^24 at most.
    /// </summary>
    public ScoreFunction? ScoreFunction { get; init; }

    /// <summary>
    /// Keys that a query may see, by a rule that the caller has written, beside <see cref="Mask"/> and what tensors exclude; null, the default, for none. Tiles of keys that it leaves nothing of are not read. The rest of
    /// <see cref="ScoreFunction"/> holds here too.
    /// </summary>
    public MaskFunction? MaskFunction { get; init; }

    /// <summary>
    /// Use one arithmetic for any number of query rows, so that decoding token by token, a prefill in chunks of any size and one whole prefill give
    /// the same bits. Costs speed where there are few rows: see the README.
    /// </summary>
    public bool RowInvariant { get; init; }

    /// <summary>What is set, in a few words, for logs: <c>causal, scale 0.125, ALiBi (8 slopes), soft cap 30, sinks (8), row-invariant</c>.</summary>
    public override string ToString()
    {
        var words = new List<string> { Mask.ToString() };
        if (QueryOffset is long offset) words.Add($"first query at {offset}");
        else if (Alignment == AttentionAlignment.TopLeft) words.Add("top-left");
        if (Scale is float scale) words.Add(string.Create(CultureInfo.InvariantCulture, $"scale {scale}"));
        if (HasAlibi) words.Add($"ALiBi ({AlibiSlopes.Length} slopes)");
        if (SoftCap > 0) words.Add(string.Create(CultureInfo.InvariantCulture, $"soft cap {SoftCap}"));
        if (HasSinks) words.Add($"sinks ({SinkLogits.Length})");
        if (ScoreFunction is not null) words.Add($"scores by {ScoreFunction}");
        if (MaskFunction is not null) words.Add($"masked by {MaskFunction}");
        if (RowInvariant) words.Add("row-invariant");
        return string.Join(", ", words);
    }

    internal const double MaxQueryOffset = 1L << 40;

    internal bool HasAlibi => !AlibiSlopes.IsDefaultOrEmpty;

    internal bool HasSinks => !SinkLogits.IsDefaultOrEmpty;

    private static ImmutableArray<float> CheckFinite(ImmutableArray<float> values, string name, bool allowNegativeInfinity)
    {
        if (values.IsDefaultOrEmpty) return values;
        for (int head = 0; head < values.Length; head++)
        {
            float value = values[head];
            if (float.IsFinite(value) || (allowNegativeInfinity && float.IsNegativeInfinity(value))) continue;
            throw new ArgumentOutOfRangeException(name, value, $"{name}[{head}] must be {(allowNegativeInfinity ? "finite or negative infinity" : "finite")}.");
        }

        return values;
    }
}
