using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>How far a call's results are from the oracle's.</summary>
/// <param name="Output">The errors of the output.</param>
/// <param name="OutputShape">The shape of the output.</param>
/// <param name="LogSumExp">The errors of the log-sum-exp; null when there was none to check.</param>
/// <param name="LogSumExpShape">Its shape.</param>
/// <param name="NotFinite">Which input holds NaN or an infinity, and where; null where none does. Limits are for finite numbers.</param>
/// <param name="HasFinite">Whether any element of the output is a finite number.</param>
internal sealed record Verdict(ErrorSummary Output, long[] OutputShape, ErrorSummary? LogSumExp, long[] LogSumExpShape, string? NotFinite, bool HasFinite)
{
    /// <summary>Beyond this many limits it is hardly rounding.</summary>
    private const double FarOff = 1000;

    /// <summary>Whether every number is within a limit, and there is a number to compare: not where NaN or infinities of the inputs have reached the whole output.</summary>
    public bool Passed => Output.Passed && LogSumExp is null or { Passed: true } && (NotFinite is null || HasFinite);

    /// <summary>The verdict in a line.</summary>
    public string Line => Passed
        ? $"verified against double precision: max error {OptionText.Error(Output.WorstError)} (limit {OptionText.Error(Output.WorstLimit)}){(NotFinite is null ? "" : $"; {NotFinite}")}"
        : NotFinite is not null ? $"NOT verified: {NotFinite}, and limits are for finite numbers"
        : $"NOT verified against double precision: {string.Join("; ", Failures())}";

    private IEnumerable<string> Failures()
    {
        foreach ((string what, ErrorSummary? error, long[] shape) in new[] { ("output", Output, OutputShape), ("log-sum-exp", LogSumExp, LogSumExpShape) })
        {
            if (error is not { Passed: false }) continue;
            string far = error.WorstRatio > FarOff ? "; so far off, another mask, scale or layout than the result's is likelier than rounding" : "";
            yield return $"{what} error {OptionText.Error(error.WorstError)} at {Place(error.WorstIndex, shape)} of {LoadedTensor.Describe(shape)} (limit {OptionText.Error(error.WorstLimit)}{far})";
        }
    }

    /// <summary>An element's indices, as [0, 3, 1].</summary>
    public static string Place(long index, ReadOnlySpan<long> shape)
    {
        long[] place = new long[shape.Length];
        for (int i = shape.Length - 1; i >= 0; i--) (index, place[i]) = Math.DivRem(index, shape[i]);
        return LoadedTensor.Describe(place);
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
            oracle.CompareOutput(call, output), call.OutputShape,
            logSumExp is null ? null : oracle.CompareLogSumExp(logSumExp), call.LogSumExpShape,
            NotFinite("query", call.Query) ?? NotFinite("key", call.Key) ?? NotFinite("value", call.Value)
                ?? NotFinite("key scale", call.KeyScale) ?? NotFinite("value scale", call.ValueScale),
            output.ToDoubles().Any(double.IsFinite));
    }

    /// <summary>"key holds NaN at ...", or null.</summary>
    private static string? NotFinite(string what, LoadedTensor? tensor)
    {
        if (tensor is null) return null;
        double[] numbers = tensor.ToDoubles();
        int at = Array.FindIndex(numbers, static number => !double.IsFinite(number));
        return at < 0 ? null : $"{what} holds {(double.IsNaN(numbers[at]) ? "NaN" : "an infinity")} at {Verdict.Place(at, tensor.Shape.AsSpan())}";
    }
}
