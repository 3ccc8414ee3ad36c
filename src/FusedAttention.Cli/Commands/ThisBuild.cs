using System.Reflection;
using System.Runtime.InteropServices;

namespace FusedAttention.Cli.Commands;

/// <summary>What a report must say about the program and the system it ran on.</summary>
internal static class ThisBuild
{
    /// <summary>Version and, where it was built from a repository, the first digits of the commit.</summary>
    public static string Version
    {
        get
        {
            string version = typeof(ThisBuild).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";
            int commit = version.IndexOf('+', StringComparison.Ordinal);
            return commit >= 0 ? version[..Math.Min(version.Length, commit + 11)] : version;
        }
    }

    /// <summary>The runtime's version, without the ".NET" that its own description begins with.</summary>
    public static string Framework => RuntimeInformation.FrameworkDescription.Replace(".NET ", "", StringComparison.Ordinal);

    /// <summary>By the name that its users know: macOS describes itself by its kernel's version only.</summary>
    public static string OperatingSystem => System.OperatingSystem.IsMacOS()
        ? $"macOS {Environment.OSVersion.Version} ({RuntimeInformation.OSDescription})"
        : RuntimeInformation.OSDescription;
}
