namespace FusedAttention.Comparison.Cases;

internal enum CaseKind
{
    /// <summary>As many queries as keys.</summary>
    Prefill,

    /// <summary>One query after all keys.</summary>
    Decode,
}

/// <summary>What every contender computes in one row of the report: one sequence.</summary>
/// <param name="Kind">Prefill or decode.</param>
/// <param name="Type">Element type of keys and values, and, unless it has 8 bits, of queries and outputs where the contender has it.</param>
/// <param name="QueryHeads">Query heads.</param>
/// <param name="KeyValueHeads">Key/value heads.</param>
/// <param name="Dim">Elements of a head.</param>
/// <param name="Queries">Query tokens.</param>
/// <param name="Keys">Keys.</param>
/// <param name="IsCausal">Whether a query sees only the keys up to its own position.</param>
internal sealed record AttentionCase(CaseKind Kind, AttentionElementType Type, int QueryHeads, int KeyValueHeads, int Dim, int Queries, int Keys, bool IsCausal)
{
    public string TypeName => Type switch
    {
        AttentionElementType.Float32 => "fp32",
        AttentionElementType.Float16 => "fp16",
        AttentionElementType.Int8 => "int8",
        AttentionElementType.Q8Block => "q8_0",
        _ => "bf16",
    };

    public bool IsEightBit => Type is AttentionElementType.Int8 or AttentionElementType.Q8Block;

    /// <summary>Of queries and outputs: keys and values of 8 bits are read under queries of binary16.</summary>
    public AttentionElementType QueryType => IsEightBit ? AttentionElementType.Float16 : Type;

    /// <summary>Bytes of an element of queries and outputs.</summary>
    public int ElementSize => (int)ElementRow.Bytes(QueryType, 1);

    public string MaskName => IsCausal ? "causal" : "full";

    /// <summary>One line that <c>--filter</c> is matched against.</summary>
    public string Name => Kind == CaseKind.Prefill
        ? $"prefill {TypeName} {QueryHeads}/{KeyValueHeads} D{Dim} {Queries} {MaskName}"
        : $"decode {TypeName} {QueryHeads}/{KeyValueHeads} D{Dim} {Keys}";

    public float Scale => 1 / MathF.Sqrt(Dim);

    public AttentionShape Shape => new(1, Queries, Keys, QueryHeads, KeyValueHeads, Dim);

    public AttentionMask Mask => IsCausal ? AttentionMask.Causal : AttentionMask.Full;

    public long QueryElements => (long)Queries * QueryHeads * Dim;

    public long KeyElements => (long)Keys * KeyValueHeads * Dim;

    /// <summary>Bytes that the scores of all heads would take in single precision: what an implementation that stores them needs at least.</summary>
    public long ScoreBytes => (long)Queries * Keys * QueryHeads * sizeof(float);

    public AttentionExplanation Explain(CpuExecution execution) => Type switch
    {
        AttentionElementType.Float32 => Attention.Explain<float, float>(Shape, new() { Mask = Mask }, execution),
        AttentionElementType.Float16 => Attention.Explain<Half, Half>(Shape, new() { Mask = Mask }, execution),
        AttentionElementType.Int8 => Attention.Explain<Half, sbyte>(Shape, new() { Mask = Mask }, execution),
        AttentionElementType.Q8Block => Attention.Explain<Half, Q8Block>(Shape, new() { Mask = Mask }, execution),
        _ => Attention.Explain<BFloat16, BFloat16>(Shape, new() { Mask = Mask }, execution),
    };
}
