using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Checks;

/// <summary>A check and how it went.</summary>
public sealed record CheckResult(Check Check, CheckOutcome Outcome)
{
    public bool Passed => Outcome.Failure is null;
}

/// <summary>What a backend is put through, section by section.</summary>
/// <param name="backend">Where.</param>
/// <param name="run">How.</param>
/// <param name="checks">What; the order is kept.</param>
public sealed class SelfCheck(Backend backend, RunOptions run, IEnumerable<Check> checks)
{
    private readonly Check[] _checks = [.. checks];
    private readonly List<CheckResult> _results = [];

    /// <summary>How many there are.</summary>
    public int Count => _checks.Length;

    /// <summary>Checks by what they are about.</summary>
    public IEnumerable<IGrouping<string, Check>> Sections => _checks.GroupBy(static check => check.Section, StringComparer.Ordinal);

    /// <summary>All results so far.</summary>
    public IReadOnlyList<CheckResult> Results => _results;

    /// <summary>The checks of a backend: its own, then those that all backends have in common.</summary>
    /// <param name="backend">Where they will run: keys and values of 8 bits are checked where there are kernels for them.</param>
    /// <param name="own">Checks of what only this backend has.</param>
    /// <param name="only">Those whose name has this in it; null for all.</param>
    public static IEnumerable<Check> Choose(Backend backend, IEnumerable<Check> own, string? only)
        => own.Concat(BuiltInChecks.All()).Concat(backend.TakesEightBits ? BuiltInChecks.EightBits(backend.TakesBlocks) : []).Where(check => only is null || check.FullName.Contains(only, StringComparison.OrdinalIgnoreCase));

    /// <summary>Runs the checks of a section.</summary>
    /// <param name="section">One of <see cref="Sections"/>.</param>
    /// <param name="onCheck">Called after each.</param>
    public IReadOnlyList<CheckResult> Run(IEnumerable<Check> section, Action onCheck)
    {
        int before = _results.Count;
        foreach (Check check in section)
        {
            run.CancellationToken.ThrowIfCancellationRequested();
            _results.Add(new(check, check.Run(backend, run)));
            onCheck();
        }

        return _results[before..];
    }
}
