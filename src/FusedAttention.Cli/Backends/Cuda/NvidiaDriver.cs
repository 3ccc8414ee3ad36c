using System.Text.RegularExpressions;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>The driver as its users know it: <c>580.159.03, CUDA 13.0</c>. The library asks for the second number only.</summary>
internal static partial class NvidiaDriver
{
    private const string KernelModule = "/proc/driver/nvidia/version";

    public static string Of(CudaDevice device)
    {
        int version = device.Description.DriverVersion;
        string cuda = $"CUDA {version / 1000}.{version % 1000 / 10}";
        return OfModule() is string module ? $"{module}, {cuda}" : cuda;
    }

    /// <summary>The version in what the kernel's module says of itself; null if there is none in it.</summary>
    public static string? Find(string text) => Version().Match(text) is { Success: true } match ? match.Value : null;

    /// <summary>Null where the system does not say.</summary>
    private static string? OfModule()
    {
        try
        {
            return OperatingSystem.IsLinux() && File.Exists(KernelModule) ? Find(File.ReadAllText(KernelModule)) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    [GeneratedRegex(@"(?<![\w.])[0-9]{3,}(\.[0-9]+){1,2}(?![\w.])", RegexOptions.ExplicitCapture, matchTimeoutMilliseconds: 1000)]
    private static partial Regex Version();
}
