using System.CommandLine;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>conform</c>: every reference case under a folder, through the library's public API.</summary>
internal sealed class ConformCommand
{
    private const string Description = """
        Run a folder of cases and compare the results.
        Every file of the reference form under the folder counts, and states its results; the limits are those of the reference set. The last line is 'N passed, N failed, N skipped'.

        Examples:
          fused-attention conform tests/data/reference
          fused-attention conform tests/data/reference --instruction-set Vector128 --threads 1 --row-invariant
          fused-attention conform tests/data/reference --backend metal
        """;

    private readonly Argument<string> _directory = new("DIRECTORY") { Description = "Folder to search, with all its subfolders, for .safetensors files." };
    private readonly ExecutionOptions _execution;
    private readonly Option<bool> _json = JsonReport.NewOption();
    private readonly ToolConsole _console;

    private ConformCommand(ToolConsole console, BackendCatalog backends) => (_console, _execution) = (console, new(console, backends));

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        var conform = new ConformCommand(console, backends);
        var command = new ToolCommand("conform", Description) { conform._directory, conform._json };
        conform._execution.AddTo(command);
        return command.WithAction(console, backends, conform.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        (BackendDevice device, RunOptions run) = _execution.Read(parsed, cancellation);
        string directory = parsed.GetRequiredValue(_directory);
        if (!Directory.Exists(directory)) throw new UsageException($"There is no folder {directory}.");
        string[] files = ReferenceFolder.Files(directory);
        // Once, before the cases: a variant that the machine lacks is one error and not as many as there are files.
        device.Backend.ThrowIfNotSupported(run);

        FolderOutcome outcome = _console.WithProgress("conformance", files.Length, step => ReferenceFolder.Run(directory, files, run, device.Backend, step));
        if (parsed.GetValue(_json))
        {
            _console.Line(JsonReport.OfConform(outcome));
        }
        else
        {
            Report(_console, outcome);
            _console.Line($"{outcome.Passed} passed, {outcome.Failed} failed, {outcome.Skipped.Count} skipped");
        }

        if (outcome.Failed > 0) return ExitCode.VerificationFailed;
        if (outcome.Outcomes.Count > 0) return ExitCode.Success;
        // A gate that finds nothing to check must not look like one that passed.
        _console.Error.WriteLine($"No file of the reference form under {directory}.");
        return ExitCode.BadInput;
    }

    /// <summary>The outcome by groups, and what failed or was skipped.</summary>
    public static void Report(ToolConsole console, FolderOutcome outcome)
    {
        if (outcome.Outcomes.Count > 0)
        {
            console.Table(
                ["group", "cases", "passed", "output error / limit", "lse error / limit"],
                [.. outcome.Outcomes.GroupBy(o => o.Group, StringComparer.Ordinal).OrderBy(g => g.Key, StringComparer.Ordinal).Select(Row)]);
        }

        foreach (CaseOutcome failed in outcome.Outcomes.Where(o => !o.Passed)) console.Line($"FAILED {failed.Case}: {failed.Failure}");
        foreach (var group in outcome.Skipped.GroupBy(s => s.Reason, StringComparer.Ordinal))
        {
            string more = group.Count() > 1 ? $" and {group.Count() - 1} more" : "";
            console.Line($"skipped {group.First().File}{more}: {group.Key}");
        }

        static string[] Row(IGrouping<string, CaseOutcome> group) =>
        [
            group.Key, group.Count().ToString(), group.Count(o => o.Passed).ToString(),
            OptionText.Ratio(group.Max(o => o.Output?.WorstRatio)),
            OptionText.Ratio(group.Max(o => o.LogSumExp is null ? (double?)null : Math.Max(o.LogSumExp.WorstRatio, o.LogSumExpOfKeys?.WorstRatio ?? 0))),
        ];
    }
}
