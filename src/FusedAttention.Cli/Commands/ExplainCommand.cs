using System.CommandLine;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>explain</c>: what a call of a shape would run, and why, without running it.</summary>
internal static class ExplainCommand
{
    private const string Description = """
        Say what a call would run on this machine, and why.
        Nothing is run.

        Examples:
          fused-attention explain --query-length 2048 --dim 128 --mask causal
          fused-attention explain --batch 8 --query-heads 32 --kv-heads 8 --query-length 1 --key-length 32768 --dtype fp16 --paged 16
          fused-attention explain --query-length 4096 --dtype fp16 --backend metal
          fused-attention explain --query-heads 32 --kv-heads 8 --query-length 1 --key-length 4096 --dtype fp16 --listing
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
        var listing = new Option<bool>("--listing") { Description = "CPU: the machine code that the library writes for the call, if any, instead of the explanation.", Arity = ArgumentArity.Zero };
        command.Add(listing);
        return command.WithAction(console, backends, (parsed, cancellation) =>
        {
            CallShape read = shape.Read(parsed);
            Execution run = execution.Read(parsed, cancellation);
            AttentionExplanation explanation = run.Device.Backend.Explain(read, run.Options);
            if (parsed.GetValue(listing))
            {
                console.Line(explanation.MachineCodeListing?.TrimEnd() ?? OptionText.InToolWords($"machine code: {explanation.MachineCode ?? "none"}"));
                return ExitCode.Success;
            }

            console.Line(parsed.GetValue(json) ? JsonReport.OfExplain(explanation) : OptionText.InToolWords(explanation.ToString()));
            return ExitCode.Success;
        });
    }
}
