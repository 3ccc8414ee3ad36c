using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Conformance;

/// <summary>How one case went.</summary>
/// <param name="Case">Its name.</param>
/// <param name="Group">Its group.</param>
/// <param name="Output">The error of the output; null when the call failed.</param>
/// <param name="LogSumExp">The error of the log-sum-exp; null when the call failed.</param>
/// <param name="LogSumExpOfKeys">The error of the log-sum-exp without sinks, where the case has it.</param>
/// <param name="Failure">Null when the case passed.</param>
public sealed record CaseOutcome(string Case, string Group, ErrorSummary? Output, ErrorSummary? LogSumExp, ErrorSummary? LogSumExpOfKeys, string? Failure)
{
    public bool Passed => Failure is null;

    /// <summary>The worst error of the case in units of its limit.</summary>
    public double WorstRatio => Math.Max(Output?.WorstRatio ?? 0, Math.Max(LogSumExp?.WorstRatio ?? 0, LogSumExpOfKeys?.WorstRatio ?? 0));
}

/// <summary>
/// Runs a reference case through a backend's public API and compares with its expected results, within the limits that the reference set states:
/// output fp32 <c>4 * emulated + 2e-6</c>, fp16 and bf16 <c>2 * emulated + 1e-6</c>; log-sum-exp <c>1e-5 + 1e-6 |lse|</c>. A case without expected
/// results is compared with the naive oracle.
/// </summary>
public static class ReferenceRunner
{
    /// <param name="reference">The case.</param>
    /// <param name="run">How to run it: threads, instruction set, row invariance and cancellation are taken from here; what to compute, from the case.</param>
    /// <param name="backend">Where.</param>
    /// <exception cref="OperationCanceledException">The token of <paramref name="run"/> was cancelled.</exception>
    /// <exception cref="PlatformNotSupportedException">The machine cannot run the instruction set.</exception>
    public static CaseOutcome Run(ReferenceCase reference, RunOptions run, Backend backend) => Run(reference, run, backend.Prepare);

    /// <param name="reference">The case.</param>
    /// <param name="run">How to run it.</param>
    /// <param name="prepare">Makes the call that runs it.</param>
    public static CaseOutcome Run(ReferenceCase reference, RunOptions run, Func<CallInputs, PreparedCall> prepare)
    {
        try
        {
            CallInputs call = Call(reference, run);
            using PreparedCall prepared = prepare(call);
            prepared.Poison();
            prepared.Invoke(call.Options, run);
            double[] output = prepared.Output.ToDoubles();
            double[] logSumExp = prepared.LogSumExp.ToDoubles();
            double[]? logSumExpOfKeys = null;
            if (reference.ExpectedLogSumExpOfKeys is not null)
            {
                prepared.Poison();
                prepared.Invoke(call.Options with { SinkLogits = [] }, run);
                logSumExpOfKeys = prepared.LogSumExp.ToDoubles();
            }

            return Compare(reference, call, output, logSumExp, logSumExpOfKeys, run.CancellationToken);
        }
        catch (Exception e) when (e is not (OperationCanceledException or PlatformNotSupportedException))
        {
            // A case is data: whatever it makes the library throw is this case's result, and the others still run.
            return new(reference.Name, reference.Group, null, null, null, $"{e.GetType().Name}: {e.Message}");
        }
    }

    /// <summary>The case as a call.</summary>
    public static CallInputs Call(ReferenceCase reference, RunOptions run)
    {
        var call = new CallInputs
        {
            Layout = reference.Layout,
            Query = reference.Query,
            Key = reference.Key,
            Value = reference.Value,
            KeyScale = reference.KeyScale,
            ValueScale = reference.ValueScale,
            Mask = reference.Mask,
            Bias = reference.Bias,
            KeyLengths = reference.KeyLengths.IsEmpty ? null : reference.KeyLengths.ToArray(),
            CumulativeQueryLengths = reference.CumulativeQueryLengths.ToArray(),
            CumulativeKeyLengths = reference.CumulativeKeyLengths.ToArray(),
            ContextLengths = reference.ContextLengths.ToArray(),
            BlockTables = reference.BlockTables.ToArray(),
            MaxBlocksPerSequence = reference.Layout == SequenceLayout.Paged ? reference.MaxBlocksPerSequence : 0,
            Options = run.Apply(reference.Options),
        };
        CallCheck.Check(call);
        return call;
    }

    /// <summary>The limit on the error of the output, as the reference set states it; null for a case that does not say how its emulation fared.</summary>
    public static double? OutputLimit(ReferenceCase reference) => reference.EmulatedError is not double emulated ? null
        : reference.ElementType == TensorElementType.Float32 ? (4 * emulated) + 2e-6
        : (2 * emulated) + 1e-6;

    /// <summary>The limit on the error of a log-sum-exp.</summary>
    public static double LogSumExpLimit(double expected) => 1e-5 + (1e-6 * Math.Abs(expected));

    /// <summary>Compares results in the layouts of the call with what the case, or else the oracle, expects.</summary>
    public static CaseOutcome Compare(ReferenceCase reference, CallInputs call, double[] output, double[] logSumExp, double[]? logSumExpOfKeys, CancellationToken cancellation = default)
    {
        double? limit = OutputLimit(reference);
        bool complete = reference.ExpectedOutput is not null && reference.ExpectedLogSumExp is not null && limit is not null;
        OracleResult? oracle = complete ? null : CallOracle.Compute(call, Environment.ProcessorCount, null, cancellation);

        ErrorSummary outputError = ErrorSummary.Compare(
            output, reference.ExpectedOutput?.ToDoubles() ?? oracle!.Output, i => limit ?? oracle!.OutputLimits[call.StatisticIndexOfOutput(i)]);
        double[] expected = reference.ExpectedLogSumExp?.ToDoubles() ?? oracle!.LogSumExp;
        ErrorSummary logSumExpError = ErrorSummary.Compare(logSumExp, expected, i => LogSumExpLimit(expected[i]));
        ErrorSummary? keysError = null;
        if (logSumExpOfKeys is not null)
        {
            double[] expectedOfKeys = reference.ExpectedLogSumExpOfKeys!.ToDoubles();
            keysError = ErrorSummary.Compare(logSumExpOfKeys, expectedOfKeys, i => LogSumExpLimit(expectedOfKeys[i]));
        }

        string?[] failures = [Failure("output", outputError), Failure("log-sum-exp", logSumExpError), Failure("log-sum-exp without sinks", keysError)];
        string failure = string.Join("; ", failures.Where(f => f is not null));
        return new(reference.Name, reference.Group, outputError, logSumExpError, keysError, failure.Length == 0 ? null : failure);
    }

    private static string? Failure(string what, ErrorSummary? error) => error is null or { Passed: true } ? null
        : $"{what}: error {error.WorstError:g4} at element {error.WorstIndex} of {error.Count}, limit {error.WorstLimit:g4}";
}
