using System.CommandLine;
using System.Runtime.InteropServices;
using FusedAttention.Cli.Measurement;

namespace FusedAttention.Cli.Commands;

/// <summary><c>info</c>: this machine, the variants of the kernels that it can run, and the backends.</summary>
internal static class InfoCommand
{
    private const string Description = """
        Show this machine, the variants of the kernels that it can run, and the backends.

        Example:
          fused-attention info
        """;

    public static Command Create(ToolConsole console)
        => new Command("info", Description).WithAction(console, (_, _) =>
        {
            console.Facts(
                ("fused-attention", Version),
                ("processor", Processor.Name ?? "unknown"),
                ("architecture", RuntimeInformation.ProcessArchitecture.ToString()),
                ("logical processors", Environment.ProcessorCount.ToString()),
                ("memory", $"{GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9:0.0} GB"),
                ("operating system", RuntimeInformation.OSDescription),
                (".NET", RuntimeInformation.FrameworkDescription));
            console.Line();
            var variants = new List<string[]>();
            foreach (CpuInstructionSet set in Enum.GetValues<CpuInstructionSet>())
            {
                if (set != CpuInstructionSet.Auto) variants.Add([set.ToString(), Runs(set)]);
            }

            console.Table(["instruction set", "runs here"], variants);
            console.Line();
            console.Facts(("backend cpu", $"available; Auto runs {Resolved()}"));
            return ExitCode.Success;
        });

    private static string Version => typeof(InfoCommand).Assembly.GetName().Version?.ToString(3) ?? "unknown";

    /// <summary>Asks the library itself, by a call with one query and one key.</summary>
    private static string Runs(CpuInstructionSet set)
    {
        try
        {
            ExecutionOptions.ThrowIfNotSupported(new AttentionOptions { InstructionSet = set });
            return "yes";
        }
        catch (PlatformNotSupportedException)
        {
            return "no";
        }
    }

    private static string Resolved()
    {
        try
        {
            return $"{Attention.Explain<float, float>(new AttentionShape(1, 1, 1, 1, 1, 1)).InstructionSet}";
        }
        catch (PlatformNotSupportedException e)
        {
            // The environment variable that forces a variant may name one that this machine lacks.
            return $"nothing: {e.Message}";
        }
    }
}
