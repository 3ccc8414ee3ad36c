using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>What NVIDIA's assembler says about a kernel.</summary>
/// <param name="ExitCode">0 if it took the text.</param>
/// <param name="Registers">Of a thread.</param>
/// <param name="SpillBytes">Stored and loaded, and the stack.</param>
/// <param name="Log">All that it said.</param>
internal sealed record AssemblyReport(int ExitCode, int Registers, int SpillBytes, string Log)
{
    public bool HasWarnings => Log.Contains("warning", StringComparison.OrdinalIgnoreCase);
}

/// <summary>NVIDIA's <c>ptxas</c>, which needs neither a GPU nor a driver: FUSEDATTENTION_PTXAS names it, or it is on the path, or where <c>.ci/get-ptxas.sh</c> puts it.</summary>
internal static partial class PtxAssembler
{
    public static string? Program { get; } = Find();

    public static string SkipReason => "There is no ptxas: FUSEDATTENTION_PTXAS does not name it, it is not on the path, and .ci/get-ptxas.sh has not put it into ~/.cache/ptxas/bin.";

    /// <summary>Assembles a kernel's text for an architecture, <c>sm_90a</c>.</summary>
    public static AssemblyReport Assemble(KernelFunction function, string architecture)
    {
        using var folder = new TemporaryFolder();
        string source = Path.Combine(folder.Path, "kernel.ptx");
        File.WriteAllText(source, function.Text);
        using var process = Process.Start(new ProcessStartInfo(Program!, ["-v", $"-arch={architecture}", "-o", Path.Combine(folder.Path, "kernel.cubin"), source])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        })!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string log = process.StandardError.ReadToEnd() + output.Result;
        process.WaitForExit();
        return new(process.ExitCode, Number(Registers().Match(log)), Spills().Matches(log).Sum(Number), log.Replace(folder.Path, ".", StringComparison.Ordinal));
    }

    private static int Number(Match match) => match.Success ? int.Parse(match.Groups["n"].ValueSpan, CultureInfo.InvariantCulture) : 0;

    private static string? Find()
    {
        string name = OperatingSystem.IsWindows() ? "ptxas.exe" : "ptxas";
        string?[] places =
        [
            Environment.GetEnvironmentVariable("FUSEDATTENTION_PTXAS"),
            .. (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries).Select(folder => Path.Combine(folder, name)),
            Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache", "ptxas", "bin", name),
        ];
        return places.FirstOrDefault(File.Exists);
    }

    [GeneratedRegex(@"Used (?<n>\d+) registers", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Registers();

    [GeneratedRegex(@"(?<n>\d+) bytes (stack frame|spill stores|spill loads)", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Spills();
}
