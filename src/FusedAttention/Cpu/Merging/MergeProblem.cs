using FusedAttention.Problems;

namespace FusedAttention.Cpu.Merging;

/// <summary>A checked merge: sizes, strides, element types, and pointers that are valid during the call only. A row is one (batch, query, head), counted in this order.</summary>
internal unsafe struct MergeProblem
{
    public MergeShape Shape;

    public AttentionElementType PartialType;

    public AttentionElementType OutputType;

    /// <summary>The parts' outputs.</summary>
    public byte* Partials;

    /// <summary>The parts' log-sum-exps.</summary>
    public float* PartialLogSumExps;

    /// <summary>A logit per head, or null.</summary>
    public float* Sinks;

    /// <summary>Receives the rows.</summary>
    public byte* Output;

    /// <summary>Receives the log-sum-exps, or null.</summary>
    public float* LogSumExps;

    public readonly long Rows => Shape.Batch * Shape.Queries * Shape.Heads;
}
