using System.CommandLine;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>explain</c>: what a call of a shape would run, and why, without running it.</summary>
internal static class ExplainCommand
{
    private const string Description = """
        Say what a call of a shape would run on this machine, and why, without running it.

        Examples:
          fused-attention explain --query-length 2048 --dim 128 --mask causal
          fused-attention explain --batch 8 --query-heads 32 --kv-heads 8 --query-length 1 --key-length 32768 --dtype fp16 --paged 16
          fused-attention explain --query-length 4096 --dtype fp16 --backend metal
        """;

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        var shape = new ShapeOptions();
        var execution = new ExecutionOptions(console, backends);
        var command = new ToolCommand("explain", Description);
        shape.AddTo(command);
        execution.AddTo(command);
        Option<bool> json = JsonReport.NewOption();
        command.Add(json);
        return command.WithAction(console, backends, (parsed, cancellation) =>
        {
            CallShape read = shape.Read(parsed);
            Execution run = execution.Read(parsed, cancellation);
            AttentionExplanation explanation = run.Device.Backend.Explain(read, run.Options);
            console.Line(parsed.GetValue(json) ? JsonReport.OfExplain(explanation) : explanation.ToString());
            return ExitCode.Success;
        });
    }
}
