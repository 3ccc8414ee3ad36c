using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Globalization;
using System.Reflection;
using System.Text;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// Puts a library's source text together: Metal's headers, definitions, the files that every family shares, the family's own files. The runtime compiles this text on the
/// user's machine, and the tests' emulator compiles the very same.
/// </summary>
internal static class KernelSource
{
    /// <summary>Metal's headers: in front of everything.</summary>
    public const string Includes = "includes.metal";

    /// <summary>In front of every family, in this order.</summary>
    public static readonly ImmutableArray<string> Shared = ["common.metal", "parameters.metal"];

    private const string ScoresFile = "scores.metal";

    /// <summary>The line of that file that stands for the steps of <see cref="MetalScoreSteps"/>.</summary>
    private const string ScoreSteps = "    // SCORE_STEPS\n";

    private static readonly ConcurrentDictionary<string, string> Files = new(StringComparer.Ordinal);

    /// <summary>The whole text of a function's library, with <c>#line</c> marks that make the compiler's messages name our files.</summary>
    public static string Compose(KernelFunction function)
    {
        var text = new StringBuilder();
        Append(text, Includes);
        foreach (SourceDefinition definition in function.Definitions) text.Append(CultureInfo.InvariantCulture, $"#define {definition.Name} {definition.Value}\n");
        foreach (string file in Shared) Append(text, file);
        foreach (string file in FilesOf(function.Family)) Append(text, file);
        return text.ToString();
    }

    /// <summary>One embedded file, with the score's steps where it has a place for them.</summary>
    public static string File(string name) => Files.GetOrAdd(name, static name => name is ScoresFile ? WithScoreSteps(Embedded(name)) : Embedded(name));

    /// <summary>Puts the steps in place of their marker, and the file's own line numbers behind them.</summary>
    private static string WithScoreSteps(string text)
    {
        int at = text.IndexOf(ScoreSteps, StringComparison.Ordinal);
        if (at < 0) throw new InvalidOperationException($"{ScoresFile} has no line \"{ScoreSteps.Trim()}\".");
        int line = text.AsSpan(0, at).Count('\n') + 1;
        return string.Create(
            CultureInfo.InvariantCulture, $"{text.AsSpan(0, at)}{MetalScoreSteps.Lines()}#line {line + 1} \"{ScoresFile}\"\n{text.AsSpan(at + ScoreSteps.Length)}");
    }

    private static string Embedded(string name)
    {
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(name)
            ?? throw new InvalidOperationException($"The assembly has no resource {name}.");
        using var reader = new StreamReader(stream, Encoding.UTF8);
        return reader.ReadToEnd();
    }

    /// <summary>The files of a family, its own last.</summary>
    public static string[] FilesOf(KernelFamily family) => family switch
    {
        KernelFamily.Plain => ["special_values.metal", "slopes.metal", ScoresFile, "rows.metal", "specials.metal", "splits.metal", "merge_splits.metal", "plain.metal"],
        KernelFamily.Prefill => ["special_values.metal", "fragments.metal", "slopes.metal", ScoresFile, "rows.metal", "specials.metal", "prefill.metal", "prefill_kernel.metal"],
        KernelFamily.Decode =>
            ["special_values.metal", "slopes.metal", ScoresFile, "rows.metal", "specials.metal", "splits.metal", "merge_splits.metal", "decode.metal", "decode_kernel.metal"],
        KernelFamily.Merge => ["special_values.metal", "merge.metal"],
        KernelFamily.Cache => ["cache.metal"],
        KernelFamily.LaneMap => ["fragments.metal", "lane_map.metal"],
        _ => throw new ArgumentOutOfRangeException(nameof(family), family, null),
    };

    private static void Append(StringBuilder text, string file) => text.Append(CultureInfo.InvariantCulture, $"#line 1 \"{file}\"\n").Append(File(file));
}
