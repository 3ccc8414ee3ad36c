using System.CommandLine;
using System.Runtime.InteropServices;
using FusedAttention.Cli.Backends;
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

    public static Command Create(ToolConsole console, BackendCatalog backends)
        => new Command("info", Description).WithAction(console, (_, _) =>
        {
            console.Facts(
                ("fused-attention", ThisBuild.Version),
                ("processor", Processor.Name ?? "unknown"),
                ("architecture", RuntimeInformation.ProcessArchitecture.ToString()),
                ("logical processors", Environment.ProcessorCount.ToString()),
                ("memory", $"{GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9:0.0} GB"),
                ("operating system", ThisBuild.OperatingSystem),
                (".NET", RuntimeInformation.FrameworkDescription));
            console.Line();
            var variants = new List<string[]>();
            foreach (CpuInstructionSet set in Enum.GetValues<CpuInstructionSet>())
            {
                if (set != CpuInstructionSet.Auto) variants.Add([set.ToString(), Runs(set)]);
            }

            console.Table(["instruction set", "runs here"], variants);
            console.Line();
            console.Facts(
                ("backend cpu", $"available; Auto runs {Resolved()}"),
                ("backend metal", backends.WhyNoMetal is string reason ? $"not available: {reason}" : "available"));
            if (backends.Metal.Count == 0) return ExitCode.Success;
            console.Line();
            console.Table(["Metal device", "Apple GPU family", "largest tensor", "simdgroup matrices"], [.. backends.Metal.Select(static metal => Row(metal.Device))]);
            return ExitCode.Success;
        });

    private static string[] Row(MetalDevice device) => [device.Name, device.AppleFamily.ToString(), OptionText.Megabytes(device.MaxTensorBytes), LaneMap(device)];

    /// <summary>The self-test runs when a device's description is asked for the first time.</summary>
    private static string LaneMap(MetalDevice device)
    {
        try
        {
            return device.Description.HasKnownLaneMap ? "as expected" : "differ, prefill is not used; verify --backend metal shows how";
        }
        catch (MetalException e)
        {
            return $"the self-test failed: {e.Message.ReplaceLineEndings(" ")}";
        }
    }

    /// <summary>Asks the library itself, by a call with one query and one key.</summary>
    private static string Runs(CpuInstructionSet set)
    {
        try
        {
            Backend.Cpu.ThrowIfNotSupported(new AttentionOptions { InstructionSet = set });
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
