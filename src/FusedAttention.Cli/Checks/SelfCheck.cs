using System.Runtime.InteropServices;
using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Commands;
using FusedAttention.Cli.Conformance;

namespace FusedAttention.Cli.Checks;

/// <summary>
/// A backend against everything that this tool brings along, for who has hardware that we do not: section by section, with a summary to hand on at the end.
/// </summary>
internal sealed class SelfCheck(ToolConsole console, Backend backend, AttentionOptions run)
{
    /// <summary>Failures that the summary names; a broken kernel fails by the dozen.</summary>
    private const int NamedFailures = 10;

    private readonly List<(Check Check, CheckOutcome Outcome)> _outcomes = [];

    /// <param name="only">Run the checks whose name has this in it, and no reference cases; null for all.</param>
    /// <param name="references">A folder of reference cases; null for none.</param>
    /// <returns>The exit code.</returns>
    public int Run(string? only, string? references)
    {
        backend.ThrowIfNotSupported(run);
        Check[] checks = [.. backend.Checks().Concat(BuiltInChecks.All()).Where(check => only is null || check.FullName.Contains(only, StringComparison.OrdinalIgnoreCase))];
        if (checks.Length == 0) throw new UsageException($"--only '{only}': no check is called so.");
        console.Facts(Header());
        console.Line();
        foreach (IGrouping<string, Check> section in checks.GroupBy(check => check.Section, StringComparer.Ordinal)) RunSection(section.Key, [.. section]);
        FolderOutcome? reference = null;
        if (only is null && references is not null)
        {
            string[] files = ReferenceFolder.Files(references);
            reference = console.WithProgress("reference cases", files.Length, step => ReferenceFolder.Run(references, files, run, backend, step));
            console.Line($"reference cases: {reference.Passed} passed, {reference.Failed} failed, {reference.Skipped.Count} skipped");
            foreach (CaseOutcome failed in reference.Outcomes.Where(static outcome => !outcome.Passed)) console.Line($"FAILED {failed.Case}: {failed.Failure}");
        }

        if (reference is { Outcomes.Count: 0 }) throw new UsageException($"No file of the reference form under {references}.");
        console.Line();
        Summarize(only, references, reference);
        bool failedAny = _outcomes.Any(static o => o.Outcome.Failure is not null) || reference is { Failed: > 0 };
        return failedAny ? ExitCode.VerificationFailed : ExitCode.Success;
    }

    private void RunSection(string name, Check[] checks)
    {
        int before = _outcomes.Count;
        console.WithProgress(name, checks.Length, step =>
        {
            foreach (Check check in checks)
            {
                run.CancellationToken.ThrowIfCancellationRequested();
                _outcomes.Add((check, check.Run(backend, run)));
                step();
            }

            return true;
        });
        (Check Check, CheckOutcome Outcome)[] done = [.. _outcomes.Skip(before)];
        int failed = done.Count(static o => o.Outcome.Failure is not null);
        console.Line($"{name}: {done.Length - failed} passed, {failed} failed");
        foreach ((Check check, CheckOutcome outcome) in done)
        {
            if (outcome.Failure is not null) console.Line($"FAILED {check.FullName} ({outcome.Kernel}): {outcome.Failure}");
        }
    }

    private (string Name, string Value)[] Header() =>
    [
        ("fused-attention", ThisBuild.Version),
        (".NET", $"{RuntimeInformation.FrameworkDescription}, {RuntimeInformation.ProcessArchitecture}"),
        ("operating system", ThisBuild.OperatingSystem),
        .. backend.Facts(),
    ];

    private void Summarize(string? only, string? references, FolderOutcome? reference)
    {
        console.Line("---- summary: please put this into an issue, whatever it says ----");
        console.Facts([.. Header(), .. only is null ? Array.Empty<(string, string)>() : [("checks", $"those with '{only}' in their name only")]]);
        console.Line();
        console.Table(
            ["kernel", "checks", "passed", "output error / limit", "lse error / limit"],
            [.. _outcomes.GroupBy(static o => o.Outcome.Kernel, StringComparer.Ordinal).OrderBy(static g => g.Key, StringComparer.Ordinal).Select(Row)]);
        foreach ((Check check, CheckOutcome outcome) in _outcomes.Where(static o => o.Outcome.Failure is not null).Take(NamedFailures))
            console.Line($"FAILED {check.FullName} ({outcome.Kernel}): {outcome.Failure}");
        string cases = reference is not null ? $"{reference.Passed} passed, {reference.Failed} failed; output error / limit {OptionText.Ratio(reference.Outcomes.Max(static o => o.Output?.WorstRatio))}"
            : only is not null ? "left out"
            : $"not found: run this in a clone of the repository, or name their folder{(references is null ? "" : $" ({references})")}";
        console.Line($"reference cases: {cases}");
        int failed = _outcomes.Count(static o => o.Outcome.Failure is not null);
        console.Line($"checks: {_outcomes.Count - failed} passed, {failed} failed{(failed > NamedFailures ? $", {NamedFailures} of them named here" : "")}");

        static string[] Row(IGrouping<string, (Check Check, CheckOutcome Outcome)> kernel) =>
        [
            kernel.Key, kernel.Count().ToString(), kernel.Count(static o => o.Outcome.Failure is null).ToString(),
            OptionText.Ratio(kernel.Max(static o => o.Outcome.Output?.WorstRatio)),
            OptionText.Ratio(kernel.Max(static o => o.Outcome.LogSumExp?.WorstRatio)),
        ];
    }
}
