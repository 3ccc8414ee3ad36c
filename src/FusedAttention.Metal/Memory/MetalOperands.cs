namespace FusedAttention;

/// <summary>
/// The optional tensors of a call on a Metal device, beside query, key and value: <see cref="AttentionOperands"/> with tensors of the device. Everything left at its default is absent.
/// </summary>
/// <remarks>
/// Masks and biases are indexed <c>[batch, head, query, key]</c>; leading dimensions may be left out and any but the last may be 1, which broadcasts.
/// In packed and paged calls they are <c>[head, query, key]</c> with <c>query</c> running over all queries of the call and <c>key</c> over the keys
/// of the query's own sequence, as many as the longest sequence has (more are allowed and ignored).
/// </remarks>
public ref struct MetalOperands
{
    /// <summary>
    /// True where the query may attend the key. Dense: <c>[batch or 1, heads or 1, queries or 1, keys]</c>; packed and paged:
    /// <c>[heads or 1, total queries or 1, max keys]</c>. The last dimension must be contiguous. Null: none.
    /// </summary>
    public MetalTensor<bool>? BooleanMask { get; set; }

    /// <summary>
    /// Added to the scores after scale and soft cap, in units of the natural logarithm: a <see cref="MetalTensor{T}"/> of <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>, whatever
    /// the query's type; shapes as <see cref="BooleanMask"/>. Negative infinity excludes the key; the most negative finite value does not. NaN and positive infinity follow IEEE arithmetic. Null: none.
    /// </summary>
    public MetalTensor? Bias { get; set; }

    /// <summary>
    /// Scales of keys of <see cref="sbyte"/> or <see cref="Float8E4M3"/>: a key is its scale times its codes. Dense <c>[batch or 1, keys or 1, kvHeads or 1]</c>, packed <c>[total keys or 1, kvHeads or 1]</c>, paged
    /// <c>[blocks or 1, blockSize or 1, kvHeads or 1]</c>; leading dimensions may be left out. Finite and not negative wherever a query may see the key. Null: all scales are 1.
    /// </summary>
    public MetalTensor<float>? KeyScale { get; set; }

    /// <summary>Scales of values, as <see cref="KeyScale"/>.</summary>
    public MetalTensor<float>? ValueScale { get; set; }

    /// <summary>Dense calls only: how many leading keys of each batch row are valid, <c>[batch]</c>, each from 0 to the key length. The rest is never read. Read during the call.</summary>
    public ReadOnlySpan<int> KeyLengths { get; set; }

    /// <summary>The position of query 0 on the key axis, one per sequence; overrides <see cref="AttentionOptions.QueryOffset"/> and the alignment. Read during the call.</summary>
    public ReadOnlySpan<long> QueryOffsets { get; set; }

    /// <summary>
    /// Receives the log-sum-exp of each row's scores, natural logarithm, the sink included: dense <c>[batch, heads, queries]</c> (or
    /// <c>[heads, queries]</c> for rank-3 calls), packed and paged <c>[heads, total queries]</c>. A row without keys gets negative infinity, or its sink's logit. Null: not wanted.
    /// </summary>
    public MetalTensor<float>? LogSumExp { get; set; }
}
