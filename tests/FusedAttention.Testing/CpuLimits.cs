namespace FusedAttention.Testing;

/// <summary>What the processor's kernels are held to.</summary>
internal static class CpuLimits
{
    /// <summary>The oracle's solution; with limits for weights that are rounded to bfloat16 where a call's explanation says that tiles compute it.</summary>
    public static Solution Of(Problem problem) => TakesTiles(problem) ? RowByRow.Solve(problem).WithRoundedWeights(AttentionElementType.BFloat16, AttentionElementType.BFloat16) : RowByRow.Solve(problem);

    private static bool TakesTiles(Problem problem) =>
        problem is { QueryType: AttentionElementType.BFloat16, KeyValueType: AttentionElementType.BFloat16 }
        && Attention.Explain<BFloat16, BFloat16>(new AttentionShape(1, 100, 100, problem.Heads, problem.KeyValueHeads, problem.KeyDim, problem.ValueDim), execution: problem.Execution)
            .MachineCode?.StartsWith("bfloat16", StringComparison.Ordinal) == true;
}
