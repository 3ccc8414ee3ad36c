using System.Collections.Immutable;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>The function constants of <c>scores.metal</c>, and of <c>codes.metal</c> where it is in the text: the features of a call. A feature that is off is not in the machine code.</summary>
internal static class FunctionConstants
{
    public static ImmutableArray<FunctionConstant> Of(in KernelTraits traits)
    {
        ImmutableArray<FunctionConstant> constants = OfScores(traits);
        return traits.KeyValueType.IsEightBit()
            ? constants.AddRange(Flag(9, "has_key_scale", traits.Has(CallFeatures.KeyScale)), Flag(10, "has_value_scale", traits.Has(CallFeatures.ValueScale)))
            : constants;
    }

    public static FunctionConstant Flag(int index, string name, bool value) => new(index, name, FunctionConstantType.Bool, value ? 1 : 0);

    private static ImmutableArray<FunctionConstant> OfScores(in KernelTraits traits) =>
    [
        Flag(0, "has_mask", traits.Has(CallFeatures.Mask)),
        Flag(1, "has_bias", traits.Has(CallFeatures.Bias)),
        Flag(2, "has_alibi", traits.Has(CallFeatures.Alibi)),
        Flag(3, "has_soft_cap", traits.Has(CallFeatures.SoftCap)),
        Flag(4, "has_sinks", traits.Has(CallFeatures.Sinks)),
        Flag(5, "has_log_sum_exp", traits.Has(CallFeatures.LogSumExp)),
        Flag(6, "is_aligned", traits.Has(CallFeatures.Aligned)),
        new FunctionConstant(7, "block_size", FunctionConstantType.Int, traits.BlockSize),
        new FunctionConstant(8, "bias_type", FunctionConstantType.Int, (int)traits.BiasType),
    ];
}
