using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>How far a call's results are from the oracle's.</summary>
/// <param name="Output">The errors of the output.</param>
/// <param name="LogSumExp">The errors of the log-sum-exp; null when there was none to check.</param>
internal sealed record Verdict(ErrorSummary Output, ErrorSummary? LogSumExp)
{
    public bool Passed => Output.Passed && LogSumExp is null or { Passed: true };

    /// <summary>The verdict in a line.</summary>
    public string Line => Passed
        ? $"verified against double precision: max error {OptionText.Error(Output.WorstError)} (limit {OptionText.Error(Output.WorstLimit)})"
        : $"NOT verified against double precision: {string.Join("; ", Failures())}";

    private IEnumerable<string> Failures()
    {
        foreach ((string what, ErrorSummary? error) in new[] { ("output", Output), ("log-sum-exp", LogSumExp) })
        {
            if (error is { Passed: false })
                yield return $"{what} error {OptionText.Error(error.WorstError)} at element {error.WorstIndex} of {error.Count} (limit {OptionText.Error(error.WorstLimit)})";
        }
    }
}

/// <summary>Recomputes a call in double precision and compares.</summary>
internal static class Verifier
{
    /// <summary>Multiply-adds that the oracle does in a second or two: up to here, a run verifies itself unless told otherwise.</summary>
    public const double QuickMultiplyAdds = 2e9;

    public static Verdict Verify(CallInputs call, LoadedTensor output, LoadedTensor? logSumExp, ToolConsole console, CancellationToken cancellation)
    {
        OracleResult oracle = console.WithProgress("recomputing in double precision", CallOracle.RowCount(call), onRow =>
            CallOracle.Compute(call, Environment.ProcessorCount, onRow, cancellation));
        return new(
            oracle.CompareOutput(call, output),
            logSumExp is null ? null : oracle.CompareLogSumExp(logSumExp));
    }
}
