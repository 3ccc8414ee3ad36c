using System.Runtime.InteropServices;
using FusedAttention.Checking.Checks;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary>
/// A backend against everything that this tool brings along, for who has hardware that we do not: section by section, with a summary to hand on at the end.
/// </summary>
internal sealed class SelfCheckReport(ToolConsole console, BackendDevice device, RunOptions run)
{
    /// <summary>Failures that the summary names; a broken kernel fails by the dozen.</summary>
    private const int NamedFailures = 10;

    /// <param name="only">Run the checks whose name has this in it, and no reference cases; null for all.</param>
    /// <param name="references">A folder of reference cases; null for none.</param>
    /// <returns>The exit code.</returns>
    public int Run(string? only, string? references)
    {
        device.Backend.ThrowIfNotSupported(run);
        var check = new SelfCheck(device.Backend, run, SelfCheck.Choose(device.Backend, device.Checks, only));
        if (check.Count == 0) throw new UsageException($"--only '{only}': no check is called so.");
        console.Facts(Header());
        console.Line();
        foreach (IGrouping<string, Check> section in check.Sections) RunSection(check, section);
        FolderOutcome? reference = null;
        if (only is null && references is not null)
        {
            string[] files = ReferenceFolder.Files(references);
            reference = console.WithProgress("reference cases", files.Length, step => ReferenceFolder.Run(references, files, run, device.Backend, step));
            console.Line($"reference cases: {reference.Passed} passed, {reference.Failed} failed, {reference.Skipped.Count} skipped");
            foreach (CaseOutcome failed in reference.Outcomes.Where(static outcome => !outcome.Passed)) console.Line($"FAILED {failed.Case}: {failed.Failure}");
        }

        if (reference is { Outcomes.Count: 0 }) throw new UsageException($"No file of the reference form under {references}.");
        console.Line();
        Summarize(check.Results, only, references, reference);
        bool failedAny = check.Results.Any(static result => !result.Passed) || reference is { Failed: > 0 };
        return failedAny ? ExitCode.VerificationFailed : ExitCode.Success;
    }

    private void RunSection(SelfCheck check, IGrouping<string, Check> section)
    {
        IReadOnlyList<CheckResult> results = console.WithProgress(section.Key, section.Count(), step => check.Run(section, step));
        int failed = results.Count(static result => !result.Passed);
        console.Line($"{section.Key}: {results.Count - failed} passed, {failed} failed");
        foreach (CheckResult result in results.Where(static result => !result.Passed)) Name(result);
    }

    private void Name(CheckResult failed) => console.Line($"FAILED {failed.Check.FullName} ({failed.Outcome.Kernel}): {failed.Outcome.Failure}");

    private (string Name, string Value)[] Header() =>
    [
        ("fused-attention", ThisBuild.Version),
        (".NET", $"{ThisBuild.Framework}, {RuntimeInformation.ProcessArchitecture}"),
        ("operating system", ThisBuild.OperatingSystem),
        .. device.Backend.Facts(),
    ];

    private void Summarize(IReadOnlyList<CheckResult> results, string? only, string? references, FolderOutcome? reference)
    {
        console.Line("---- summary: please put this into an issue, whatever it says ----");
        console.Facts([.. Header(), .. only is null ? Array.Empty<(string, string)>() : [("checks", $"those with '{only}' in their name only")]]);
        console.Line();
        console.Table(
            ["kernel", "checks", "passed", "output error / limit", "lse error / limit"],
            [.. results.GroupBy(static result => result.Outcome.Kernel, StringComparer.Ordinal).OrderBy(static g => g.Key, StringComparer.Ordinal).Select(Row)]);
        foreach (CheckResult failure in results.Where(static result => !result.Passed).Take(NamedFailures)) Name(failure);
        string cases = reference is not null ? $"{reference.Passed} passed, {reference.Failed} failed; output error / limit {OptionText.Ratio(reference.Outcomes.Max(static o => o.Output?.WorstRatio))}"
            : only is not null ? "left out"
            : $"not found: run this in a clone of the repository, or name their folder{(references is null ? "" : $" ({references})")}";
        console.Line($"reference cases: {cases}");
        int failed = results.Count(static result => !result.Passed);
        console.Line($"checks: {results.Count - failed} passed, {failed} failed{(failed > NamedFailures ? $", {NamedFailures} of them named here" : "")}");

        static string[] Row(IGrouping<string, CheckResult> kernel) =>
        [
            kernel.Key, kernel.Count().ToString(), kernel.Count(static result => result.Passed).ToString(),
            OptionText.Ratio(kernel.Max(static result => result.Outcome.Output?.WorstRatio)),
            OptionText.Ratio(kernel.Max(static result => result.Outcome.LogSumExp?.WorstRatio)),
        ];
    }
}
