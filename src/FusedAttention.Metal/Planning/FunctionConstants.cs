using System.Collections.Immutable;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>The function constants of <c>scores.metal</c>: the features of a call. A feature that is off is not in the machine code.</summary>
internal static unsafe class FunctionConstants
{
    /// <param name="problem">The call.</param>
    /// <param name="isAligned">Whether queries, keys and values may be loaded four elements at a time.</param>
    public static ImmutableArray<FunctionConstant> Of(AttentionProblem problem, bool isAligned)
    {
        bool hasBias = problem.Bias != null;
        return
        [
            Flag(0, "has_mask", problem.Mask != null),
            Flag(1, "has_bias", hasBias),
            Flag(2, "has_alibi", !problem.AlibiSlopes.IsEmpty),
            Flag(3, "has_soft_cap", problem.SoftCap > 0),
            Flag(4, "has_sinks", !problem.SinkLogits.IsEmpty),
            Flag(5, "has_log_sum_exp", problem.LogSumExp != null),
            Flag(6, "is_aligned", isAligned),
            new FunctionConstant(7, "block_size", FunctionConstantType.Int, problem.BlockSize),
            new FunctionConstant(8, "bias_type", FunctionConstantType.Int, hasBias ? (int)problem.BiasType : 0),
        ];
    }

    public static FunctionConstant Flag(int index, string name, bool value) => new(index, name, FunctionConstantType.Bool, value ? 1 : 0);
}
