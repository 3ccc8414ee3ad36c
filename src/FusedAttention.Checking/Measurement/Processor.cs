using System.Runtime.InteropServices;
using System.Text;

namespace FusedAttention.Checking.Measurement;

/// <summary>The processor's name, for people and for file names.</summary>
public static class Processor
{
    private const string CpuInfo = "/proc/cpuinfo";

    /// <summary>The name where the system tells it without privileges: Linux in a file, Windows in the environment. Null elsewhere.</summary>
    public static string? Name => Field("model name") ?? Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER");

    /// <summary>The name, with family and model where a virtual machine hides the number that would tell one generation from the next ("AMD EPYC").</summary>
    public static string Description
    {
        get
        {
            string name = Name ?? RuntimeInformation.ProcessArchitecture.ToString();
            bool tells = name.Any(char.IsAsciiDigit);
            return !tells && Field("cpu family") is string family && Field("model") is string model ? $"{name} (family {family}, model {model})" : name;
        }
    }

    /// <summary>The description as a folder's name: lower case letters and digits with single hyphens.</summary>
    public static string Slug(string description)
    {
        var slug = new StringBuilder();
        foreach (char c in description)
        {
            if (char.IsAsciiLetterOrDigit(c)) slug.Append(char.ToLowerInvariant(c));
            else if (slug.Length > 0 && slug[^1] != '-') slug.Append('-');
        }

        return slug.ToString().TrimEnd('-') is { Length: > 0 } text ? text : "unknown";
    }

    /// <summary>The first value of a field of Linux's description of the processors.</summary>
    private static string? Field(string name)
    {
        if (!File.Exists(CpuInfo)) return null;
        foreach (string line in File.ReadLines(CpuInfo))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0 && line.AsSpan(0, colon).Trim().SequenceEqual(name)) return line[(colon + 1)..].Trim();
        }

        return null;
    }
}
