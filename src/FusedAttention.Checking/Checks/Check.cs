using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Checks;

/// <summary>How a check went.</summary>
/// <param name="Kernel">What ran, as the report groups it.</param>
/// <param name="Output">The error of the output against the oracle; null where the check compares something else, or failed before.</param>
/// <param name="LogSumExp">The error of the log-sum-exp.</param>
/// <param name="Failure">Null when it passed.</param>
public sealed record CheckOutcome(string Kernel, ErrorSummary? Output = null, ErrorSummary? LogSumExp = null, string? Failure = null);

/// <summary>One thing that a backend must do.</summary>
/// <param name="Section">What it is about: checks of a section run together.</param>
/// <param name="Name">Tells it from the others of its section.</param>
public abstract record Check(string Section, string Name)
{
    public string FullName => $"{Section}: {Name}";

    /// <summary>Runs it. Whatever is thrown but a cancellation is its failure.</summary>
    public CheckOutcome Run(Backend backend, RunOptions run)
    {
        string kernel = "-";
        try
        {
            return RunCore(backend, run, name => kernel = name);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            return new(kernel, Failure: $"{e.GetType().Name}: {e.Message}");
        }
    }

    /// <param name="backend">Where.</param>
    /// <param name="run">How.</param>
    /// <param name="onKernel">Told what is going to run, so that an exception can be put down to it.</param>
    protected abstract CheckOutcome RunCore(Backend backend, RunOptions run, Action<string> onKernel);
}
