namespace FusedAttention.Testing;

/// <summary>What the processor's kernels are held to.</summary>
internal static class CpuLimits
{
    // Rows of a head up to which a sequence of several queries is decoded.
    private const int MostDecodeRows = 16;

    /// <summary>The oracle's solution; with limits for weights that are rounded to bfloat16, or queries and weights that become integers, where a call's explanation says that such kernels compute it.</summary>
    public static Solution Of(Problem problem) => TakesIntegers(problem) ? RowByRow.Solve(problem, s => IsGroupDecoded(problem, s)) : TakesTiles(problem) ? RowByRow.Solve(problem).WithRoundedWeights(AttentionElementType.BFloat16, AttentionElementType.BFloat16) : RowByRow.Solve(problem);

    private static bool IsGroupDecoded(Problem problem, int s)
    {
        int rows = problem.QueryLengths[s] * (problem.Heads / problem.KeyValueHeads);
        return rows > 1 && !problem.Options.RowInvariant && (problem.QueryLengths[s] == 1 || rows <= MostDecodeRows);
    }

    private static bool TakesIntegers(Problem problem)
    {
        if (problem.KeyValueType != AttentionElementType.Int8) return false;
        var shape = new AttentionShape(1, problem.Heads == problem.KeyValueHeads ? 2 : 1, 100, problem.Heads, problem.KeyValueHeads, problem.KeyDim, problem.ValueDim);
        string? machineCode = problem.QueryType switch
        {
            AttentionElementType.Float16 => Attention.Explain<Half, sbyte>(shape, execution: problem.Execution).MachineCode,
            AttentionElementType.BFloat16 => Attention.Explain<BFloat16, sbyte>(shape, execution: problem.Execution).MachineCode,
            _ => null,
        };
        return machineCode?.StartsWith("8-bit integers", StringComparison.Ordinal) == true;
    }

    private static bool TakesTiles(Problem problem) =>
        problem is { QueryType: AttentionElementType.BFloat16, KeyValueType: AttentionElementType.BFloat16 }
        && Attention.Explain<BFloat16, BFloat16>(new AttentionShape(1, 100, 100, problem.Heads, problem.KeyValueHeads, problem.KeyDim, problem.ValueDim), execution: problem.Execution)
            .MachineCode?.StartsWith("bfloat16", StringComparison.Ordinal) == true;
}
