using System.Collections.Concurrent;
using System.Globalization;
using System.Reflection;
using System.Text;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// Puts a library's source text together: definitions, the files that every family shares, the family's own file. The runtime compiles this text on the user's
/// machine, and the tests' emulator compiles the very same.
/// </summary>
internal static class KernelSource
{
    /// <summary>In front of every family, in this order.</summary>
    private static readonly string[] Shared = ["common.metal", "parameters.metal"];

    private static readonly ConcurrentDictionary<string, string> Files = new(StringComparer.Ordinal);

    /// <summary>The whole text of a function's library, with <c>#line</c> marks that make the compiler's messages name our files.</summary>
    public static string Compose(KernelFunction function)
    {
        var text = new StringBuilder();
        foreach (SourceDefinition definition in function.Definitions) text.Append(CultureInfo.InvariantCulture, $"#define {definition.Name} {definition.Value}\n");
        foreach (string file in Shared) Append(text, file);
        foreach (string file in FilesOf(function.Family)) Append(text, file);
        return text.ToString();
    }

    /// <summary>One embedded file.</summary>
    public static string File(string name) => Files.GetOrAdd(name, static name =>
    {
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"The assembly has no resource {name}.");
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    });

    /// <summary>The files of a family, its own last.</summary>
    public static string[] FilesOf(KernelFamily family) => family switch
    {
        KernelFamily.Plain => ["scores.metal", "rows.metal", "splits.metal", "plain.metal"],
        KernelFamily.Prefill => ["scores.metal", "rows.metal", "fragments.metal", "prefill.metal"],
        KernelFamily.Decode => ["scores.metal", "rows.metal", "splits.metal", "decode.metal"],
        KernelFamily.Merge => ["merge.metal"],
        KernelFamily.Cache => ["cache.metal"],
        KernelFamily.LaneMap => ["fragments.metal", "lane_map.metal"],
        _ => throw new ArgumentOutOfRangeException(nameof(family), family, null),
    };

    private static void Append(StringBuilder text, string file) => text.Append(CultureInfo.InvariantCulture, $"#line 1 \"{file}\"\n").Append(File(file));
}
