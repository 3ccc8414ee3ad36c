using System.ComponentModel;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using FusedAttention.Metal.ObjectiveC;

namespace FusedAttention.Metal.Tests.Host;

/// <summary>
/// tests/MetalEmulator/fake-objc, compiled, and in the place of libobjc and Metal.framework for the imports of FusedAttention.Metal: its real declarations of
/// objc_msgSend meet real functions of C.
/// </summary>
internal static class FakeLibrary
{
    private static readonly string[] Compilers = ["clang-16", "clang", "gcc", "cc"];

    private static readonly Lazy<(nint Handle, string? Reason)> Loaded = new(Load);

    /// <summary>What tests say when they are skipped; null where the library works.</summary>
    public static string? SkipReason => Loaded.Value.Reason;

    public static nint Function(string name) => NativeLibrary.GetExport(Loaded.Value.Handle, name);

    private static (nint Handle, string? Reason) Load()
    {
        // On a Mac the imports mean the real thing, and must keep meaning it for the tests of the device.
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return (0, $"The fake Objective-C runtime sends messages by code for Linux on x86-64; this is {RuntimeInformation.RuntimeIdentifier}.");
        }

        string? root = AppContext.BaseDirectory;
        while (root is not null && !Directory.Exists(Path.Combine(root, "tests", "MetalEmulator"))) root = Path.GetDirectoryName(root);
        string folder = Path.Combine(root ?? throw new DirectoryNotFoundException("The repository is not around this program."), "tests", "MetalEmulator", "fake-objc");
        string[] sources = [.. Directory.GetFiles(folder).Where(file => file.EndsWith(".c", StringComparison.Ordinal) || file.EndsWith(".S", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string file in Directory.GetFiles(folder).Order(StringComparer.Ordinal)) hash.AppendData(File.ReadAllBytes(file));
        string library = Path.Combine(Path.GetTempPath(), $"fused-attention-fake-objc-{Convert.ToHexStringLower(hash.GetHashAndReset())[..16]}.so");
        if (!File.Exists(library) && Compile(sources, library) is { } failure) return (0, failure);

        nint handle = NativeLibrary.Load(library);
        NativeLibrary.SetDllImportResolver(
            typeof(MetalDevice).Assembly, (name, _, _) => name is Libraries.ObjectiveC or Libraries.Metal or Libraries.CoreGraphics ? handle : 0);
        return (handle, null);
    }

    /// <returns>Null if there is a library now; that no compiler is here is a reason to skip, that one refuses the text is a failure.</returns>
    private static string? Compile(string[] sources, string library)
    {
        string unfinished = $"{library}.{Environment.ProcessId}";
        foreach (string compiler in Compilers)
        {
            string[] arguments = ["-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-o", unfinished, .. sources, "-lpthread"];
            try
            {
                using Process process = Process.Start(new ProcessStartInfo(compiler, arguments) { RedirectStandardError = true, UseShellExecute = false })!;
                string output = process.StandardError.ReadToEnd();
                process.WaitForExit();
                if (process.ExitCode != 0) throw new InvalidOperationException($"{compiler} refused the fake Objective-C runtime:\n{output}");
                File.Move(unfinished, library, overwrite: true);
                return null;
            }
            catch (Win32Exception)
            {
                // Not installed: the next one.
            }
        }

        return $"The fake Objective-C runtime needs a C compiler: none of {string.Join(", ", Compilers)} is installed.";
    }
}
