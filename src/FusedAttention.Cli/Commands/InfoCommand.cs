using System.CommandLine;
using System.Runtime.InteropServices;
using FusedAttention.Checking.Measurement;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>info</c>: this machine, the variants of the kernels that it can run, and the backends.</summary>
internal static class InfoCommand
{
    private const string Description = """
        Show this machine, its instruction sets and the backends.

        Example:
          fused-attention info
        """;

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        Option<bool> json = JsonReport.NewOption();
        return new ToolCommand("info", Description) { json }.WithAction(console, backends, (parsed, _) =>
        {
            (string Name, string Value)[] machine =
            [
                ("fused-attention", ThisBuild.Version),
                ("processor", Processor.Name ?? "unknown"),
                ("architecture", RuntimeInformation.ProcessArchitecture.ToString()),
                ("logical processors", Environment.ProcessorCount.ToString()),
                ("memory", $"{GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 1e9:0.0} GB"),
                ("operating system", ThisBuild.OperatingSystem),
                (".NET", ThisBuild.Framework),
            ];
            BackendInfo[] infos = [.. backends.Providers.Select(static provider => provider.Info())];
            (string Name, string Value)[] states = [.. backends.Providers.Zip(infos, static (provider, info) => ($"backend {provider.Name}", info.Status))];
            if (parsed.GetValue(json))
            {
                console.Line(JsonReport.OfFacts([.. machine, .. states]));
                return ExitCode.Success;
            }

            console.Facts(machine);
            console.Line();
            foreach (InfoTable variants in infos.Select(static info => info.Variants).OfType<InfoTable>())
            {
                console.Table(variants.Headings, variants.Rows);
                console.Line();
            }

            console.Facts(states);
            foreach (InfoTable devices in infos.Select(static info => info.Devices).OfType<InfoTable>())
            {
                console.Line();
                console.Table(devices.Headings, devices.Rows);
            }

            return ExitCode.Success;
        });
    }
}
