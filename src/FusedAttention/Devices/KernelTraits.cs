using FusedAttention.Problems;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Devices;

/// <summary>Features of a call that kernels are specialised for. One that is off is not in the machine code.</summary>
[Flags]
internal enum CallFeatures
{
    None = 0,
    Mask = 1,
    Bias = 2,
    Alibi = 4,
    SoftCap = 8,
    Sinks = 16,
    LogSumExp = 32,

    /// <summary>Queries, keys and values may be loaded as vectors.</summary>
    Aligned = 64,

    /// <summary>Scores go through a function that the caller has written.</summary>
    ScoreFunction = 128,

    /// <summary>Keys are masked by a function that the caller has written.</summary>
    MaskFunction = 256,

    /// <summary>Keys of 8 bits have scales beside them.</summary>
    KeyScale = 512,

    /// <summary>Values of 8 bits have scales beside them.</summary>
    ValueScale = 1024,
}

/// <summary>What a kernel is specialised for, by value: calls with equal traits run the same machine code, and a backend finds it by them.</summary>
/// <param name="QueryType">Of query and output.</param>
/// <param name="KeyValueType">Of key and value.</param>
/// <param name="KeyDim">Elements of a head's key.</param>
/// <param name="ValueDim">Elements of a head's value.</param>
/// <param name="Features">What the call has.</param>
/// <param name="BlockSize">Tokens a block of a paged cache; 0 without pages.</param>
/// <param name="BiasType">Of the bias; the first type where there is none.</param>
internal readonly record struct KernelTraits(
    AttentionElementType QueryType, AttentionElementType KeyValueType, int KeyDim, int ValueDim, CallFeatures Features, int BlockSize, AttentionElementType BiasType)
{
    /// <summary>What <see cref="CallFeatures.ScoreFunction"/> computes; null without one.</summary>
    public ScoreForm? Score { get; init; }

    /// <summary>What <see cref="CallFeatures.MaskFunction"/> computes; null without one.</summary>
    public ScoreForm? Keep { get; init; }

    /// <param name="problem">The call.</param>
    /// <param name="isAligned">Whether queries, keys and values may be loaded as vectors.</param>
    public static KernelTraits Of(AttentionProblem problem, bool isAligned)
    {
        CallFeatures features = isAligned ? CallFeatures.Aligned : CallFeatures.None;
        if (problem.HasMask) features |= CallFeatures.Mask;
        if (problem.HasBias) features |= CallFeatures.Bias;
        if (!problem.AlibiSlopes.IsEmpty) features |= CallFeatures.Alibi;
        if (problem.SoftCap > 0) features |= CallFeatures.SoftCap;
        if (!problem.SinkLogits.IsEmpty) features |= CallFeatures.Sinks;
        if (problem.HasLogSumExp) features |= CallFeatures.LogSumExp;
        if (problem.ScoreFunction is not null) features |= CallFeatures.ScoreFunction;
        if (problem.MaskFunction is not null) features |= CallFeatures.MaskFunction;
        if (problem.HasKeyScale) features |= CallFeatures.KeyScale;
        if (problem.HasValueScale) features |= CallFeatures.ValueScale;
        return new(problem.QueryType, problem.KeyValueType, problem.KeyDim, problem.ValueDim, features, problem.BlockSize, problem.HasBias ? problem.BiasType : default)
        {
            Score = problem.ScoreFunction?.Graph.Form,
            Keep = problem.MaskFunction?.Graph.Form,
        };
    }

    public bool Has(CallFeatures feature) => (Features & feature) != CallFeatures.None;
}
