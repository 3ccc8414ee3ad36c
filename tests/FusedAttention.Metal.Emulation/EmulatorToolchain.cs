using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Metal.Emulation;

/// <summary>The compiler that the emulator is built with, or the reason why there is no emulator here.</summary>
internal static class EmulatorToolchain
{
    private static readonly Lazy<(string? Version, string? Reason)> Found = new(Find);

    /// <summary>The compiler's name; the intermediate text that is edited between two of its runs is this version's.</summary>
    public const string Compiler = "clang-16";

    /// <summary>What tests say when they are skipped; null where the emulator works.</summary>
    public static string? SkipReason => Found.Value.Reason;

    /// <summary>Part of the key of everything that is built.</summary>
    public static string Version => Found.Value.Version ?? throw new InvalidOperationException(SkipReason);

    /// <summary>Half conversions and fused products are instructions then, and library calls otherwise; results have the same bits.</summary>
    public static string Processor => Avx2.IsSupported && Fma.IsSupported ? "-march=x86-64-v3" : "-march=x86-64";

    /// <summary>Turns addresses in the sanitizers' reports into lines.</summary>
    public static string? Symbolizer { get; } =
        ((string[])["/usr/bin/llvm-symbolizer-16", "/usr/lib/llvm-16/bin/llvm-symbolizer"]).FirstOrDefault(File.Exists);

    /// <summary>Runs the compiler; throws with everything it wrote unless it succeeds.</summary>
    public static string Compile(string folder, IEnumerable<string> arguments)
    {
        string[] all = [.. arguments];
        (int exitCode, string output) = Run(Compiler, folder, all);
        return exitCode == 0 ? output : throw new MetalEmulationException($"{Compiler} {string.Join(' ', all)}\nended with exit code {exitCode}:\n{output}");
    }

    /// <summary>Runs a program and collects what it writes to both streams.</summary>
    public static (int ExitCode, string Output) Run(string program, string? folder, IEnumerable<string> arguments, int timeoutSeconds = 300)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        if (folder is not null) start.WorkingDirectory = folder;
        if (Symbolizer is not null)
        {
            start.Environment["ASAN_SYMBOLIZER_PATH"] = Symbolizer;
            start.Environment["MSAN_SYMBOLIZER_PATH"] = Symbolizer;
            start.Environment["UBSAN_SYMBOLIZER_PATH"] = Symbolizer;
        }

        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{program} did not start.");
        Task<string> errors = process.StandardError.ReadToEndAsync();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        if (!process.WaitForExit(TimeSpan.FromSeconds(timeoutSeconds)))
        {
            process.Kill();
            process.WaitForExit();
            return (-1, $"{output.GetAwaiter().GetResult()}{errors.GetAwaiter().GetResult()}\nstopped after {timeoutSeconds} s");
        }

        process.WaitForExit();
        return (process.ExitCode, output.GetAwaiter().GetResult() + errors.GetAwaiter().GetResult());
    }

    private static (string? Version, string? Reason) Find()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return (null, $"The Metal emulator's fibers are written for Linux on x86-64; this is {RuntimeInformation.RuntimeIdentifier}.");
        }

        try
        {
            (int exitCode, string output) = Run(Compiler, folder: null, ["--version"]);
            if (exitCode != 0) return (null, $"{Compiler} does not run: {output}");
            (_, string library) = Run(Compiler, folder: null, ["-print-file-name=libclang_rt.asan-x86_64.a"]);
            return Path.IsPathRooted(library.Trim())
                ? (output, null)
                : (null, $"{Compiler} has no sanitizer libraries (package libclang-rt-16-dev), which the Metal emulator needs.");
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return (null, $"The Metal emulator needs {Compiler} (packages clang-16 and libclang-rt-16-dev): {e.Message}");
        }
    }
}
