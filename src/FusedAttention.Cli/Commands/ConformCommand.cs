using System.CommandLine;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Conformance;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Commands;

/// <summary><c>conform</c>: every reference case under a folder, through the library's public API.</summary>
internal sealed class ConformCommand
{
    private const string Description = """
        Run every file of the reference form under a folder and compare with the results that it states, within the limits of the reference set.
        The last line is 'N passed, N failed, N skipped'.

        Examples:
          fused-attention conform tests/data/reference
          fused-attention conform tests/data/reference --variant Vector128 --threads 1 --row-invariant
        """;

    private readonly Argument<string> _directory = new("DIRECTORY") { Description = "Folder to search, with all its subfolders, for .safetensors files." };
    private readonly ExecutionOptions _execution = new();
    private readonly ToolConsole _console;

    private ConformCommand(ToolConsole console) => _console = console;

    public static Command Create(ToolConsole console)
    {
        var conform = new ConformCommand(console);
        var command = new Command("conform", Description) { conform._directory };
        conform._execution.AddTo(command);
        return command.WithAction(console, conform.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        AttentionOptions run = _execution.Read(parsed, cancellation);
        string directory = parsed.GetRequiredValue(_directory);
        if (!Directory.Exists(directory)) throw new UsageException($"There is no folder {directory}.");
        string[] files = Directory.GetFiles(directory, "*.safetensors", SearchOption.AllDirectories);
        Array.Sort(files, StringComparer.Ordinal);
        // Once, before the cases: a variant that the machine lacks is one error and not as many as there are files.
        ExecutionOptions.ThrowIfNotSupported(run);

        var outcomes = new List<CaseOutcome>();
        var skipped = new List<(string File, string Reason)>();
        _console.WithProgress("conformance", files.Length, step =>
        {
            foreach (string file in files)
            {
                cancellation.ThrowIfCancellationRequested();
                try
                {
                    outcomes.Add(ReferenceRunner.Run(ReferenceCase.Load(file), run));
                }
                catch (NotReferenceFormException e)
                {
                    skipped.Add((Path.GetRelativePath(directory, file), e.Message));
                }
                catch (TensorFileException e)
                {
                    outcomes.Add(new(Path.GetFileNameWithoutExtension(file), "damaged", null, null, null, e.Message));
                }

                step();
            }

            return true;
        });

        Report(outcomes, skipped);
        int failed = outcomes.Count(o => !o.Passed);
        _console.Line($"{outcomes.Count - failed} passed, {failed} failed, {skipped.Count} skipped");
        if (failed > 0) return ExitCode.VerificationFailed;
        if (outcomes.Count > 0) return ExitCode.Success;
        // A gate that finds nothing to check must not look like one that passed.
        _console.Error.WriteLine($"No file of the reference form under {directory}.");
        return ExitCode.BadInput;
    }

    private void Report(List<CaseOutcome> outcomes, List<(string File, string Reason)> skipped)
    {
        if (outcomes.Count > 0)
        {
            _console.Table(
                ["group", "cases", "passed", "output error / limit", "lse error / limit"],
                [.. outcomes.GroupBy(o => o.Group, StringComparer.Ordinal).OrderBy(g => g.Key, StringComparer.Ordinal).Select(Row)]);
        }

        foreach (CaseOutcome outcome in outcomes.Where(o => !o.Passed)) _console.Line($"FAILED {outcome.Case}: {outcome.Failure}");
        foreach (var group in skipped.GroupBy(s => s.Reason, StringComparer.Ordinal))
        {
            string more = group.Count() > 1 ? $" and {group.Count() - 1} more" : "";
            _console.Line($"skipped {group.First().File}{more}: {group.Key}");
        }

        static string[] Row(IGrouping<string, CaseOutcome> group) =>
        [
            group.Key, group.Count().ToString(), group.Count(o => o.Passed).ToString(),
            Ratio(group.Max(o => o.Output?.WorstRatio)),
            Ratio(group.Max(o => o.LogSumExp is null ? (double?)null : Math.Max(o.LogSumExp.WorstRatio, o.LogSumExpOfKeys?.WorstRatio ?? 0))),
        ];

        static string Ratio(double? ratio) => ratio is not double worst ? "-" : double.IsFinite(worst) ? worst.ToString("0.000") : "infinite";
    }
}
