using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Checks;

/// <summary>
/// A call against the oracle, twice: outputs are NaN before, and the second time must give the same bits, which a race between threads would not.
/// </summary>
public sealed record ProblemCheck(string Section, string Name, CallRecipe Recipe) : Check(Section, Name)
{
    protected override CheckOutcome RunCore(Backend backend, RunOptions run, Action<string> onKernel)
    {
        CallInputs call = Recipe.CreateCall(run);
        using PreparedCall prepared = backend.Prepare(call);
        string kernel = KernelLabel.Of(backend, call, run);
        onKernel(kernel);
        (byte[] output, byte[] logSumExp) = Invoke(prepared, run);
        OracleResult oracle = CallOracle.Compute(call, Environment.ProcessorCount, null, run.CancellationToken);
        (ErrorSummary outputError, ErrorSummary logSumExpError) = (oracle.CompareOutput(call, prepared.Output), oracle.CompareLogSumExp(prepared.LogSumExp));
        (byte[] again, byte[] logSumExpAgain) = Invoke(prepared, run);
        string?[] failures =
        [
            outputError.Passed ? null : $"output error {outputError.WorstError:g4} at element {outputError.WorstIndex} of {outputError.Count}, limit {outputError.WorstLimit:g4}",
            logSumExpError.Passed ? null : $"log-sum-exp error {logSumExpError.WorstError:g4} at element {logSumExpError.WorstIndex} of {logSumExpError.Count}, limit {logSumExpError.WorstLimit:g4}",
            output.AsSpan().SequenceEqual(again) && logSumExp.AsSpan().SequenceEqual(logSumExpAgain) ? null : "a second call gave other bits",
        ];
        string failure = string.Join("; ", failures.Where(static f => f is not null));
        return new(kernel, outputError, logSumExpError, failure.Length == 0 ? null : failure);
    }

    private static (byte[] Output, byte[] LogSumExp) Invoke(PreparedCall prepared, RunOptions run)
    {
        prepared.Poison();
        prepared.Invoke(prepared.Call.Options, run);
        return (prepared.Output.Bytes.ToArray(), prepared.LogSumExp.Bytes.ToArray());
    }
}

/// <summary>What a report calls the kernels of a call.</summary>
public static class KernelLabel
{
    public static string Of(Backend backend, CallInputs call, RunOptions run)
    {
        string kernel = backend.Explain(call, run).Kernel;
        return call.Layout == SequenceLayout.Paged ? kernel + ", paged" : kernel;
    }
}
