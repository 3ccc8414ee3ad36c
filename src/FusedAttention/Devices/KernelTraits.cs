using FusedAttention.Problems;

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

    /// <summary>Keys of 8 bits have scales beside them.</summary>
    KeyScale = 128,

    /// <summary>Values of 8 bits have scales beside them.</summary>
    ValueScale = 256,
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
        if (!problem.KeyScale.IsAbsent) features |= CallFeatures.KeyScale;
        if (!problem.ValueScale.IsAbsent) features |= CallFeatures.ValueScale;
        return new(problem.QueryType, problem.KeyValueType, problem.KeyDim, problem.ValueDim, features, problem.BlockSize, problem.HasBias ? problem.BiasType : default);
    }

    public bool Has(CallFeatures feature) => (Features & feature) != CallFeatures.None;
}
