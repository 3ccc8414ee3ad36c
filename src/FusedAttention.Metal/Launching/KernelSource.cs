using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Globalization;
using System.Reflection;
using System.Text;
using FusedAttention.Problems;

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

    public const string ScoresFile = "scores.metal";

    /// <summary>The line of that file that stands for the steps of <see cref="MetalScoreSteps"/>.</summary>
    private const string ScoreStepsLine = "    // SCORE_STEPS";

    private static readonly ConcurrentDictionary<string, string> Files = new(StringComparer.Ordinal);

    /// <summary>The whole text of a function's library, with <c>#line</c> marks that make the compiler's messages name our files.</summary>
    public static string Compose(KernelFunction function)
    {
        var text = new StringBuilder();
        Append(text, Includes, File(Includes));
        foreach (SourceDefinition definition in function.Definitions) text.Append(CultureInfo.InvariantCulture, $"#define {definition.Name} {definition.Value}\n");
        string[] files = [.. Shared, .. FilesOf(function.Family)];
        bool hasCodes = CodeText.IsIn(function);
        if (!function.HasFunctions && !hasCodes)
        {
            foreach (string file in files) Append(text, file, File(file));
            return text.ToString();
        }

        ScoreSteps steps = (function.Score is null ? ScoreSteps.None : ScoreSteps.Function) | (function.Keep is null ? ScoreSteps.None : ScoreSteps.MaskFunction);
        TextEdit[] edits = [Steps(steps), .. hasCodes ? CodeText.Edits() : [], .. function.HasFunctions ? FunctionText.Edits(function.Score, function.Keep) : []];
        foreach (string file in files)
        {
            if (file is ScoresFile && function.HasFunctions)
            {
                Append(text, FunctionText.HelperFile, File(FunctionText.HelperFile));
                text.Append(FunctionText.Declarations(function.Score, function.Keep));
            }

            string edited = TextEdit.Apply(file, Embedded(file), edits);
            Append(text, file, hasCodes ? CodeText.WithCodePointers(edited) : edited);
            if (!hasCodes || !string.Equals(file, Shared[^1], StringComparison.Ordinal)) continue;
            foreach (string helper in CodeText.HelperFiles) Append(text, helper, File(helper));
        }

        return text.ToString();
    }

    /// <summary>One embedded file, with the score's steps where it has a place for them.</summary>
    public static string File(string name) => Files.GetOrAdd(name, static name => TextEdit.Apply(name, Embedded(name), [Steps(ScoreSteps.None)]));

    /// <summary>The steps in place of their marker.</summary>
    private static TextEdit Steps(ScoreSteps functions) => new(ScoresFile, ScoreStepsLine, MetalScoreSteps.Lines(functions), Replaces: true);

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
        KernelFamily.Quantize => ["codes.metal", "quantize.metal"],
        KernelFamily.LaneMap => ["fragments.metal", "lane_map.metal"],
        _ => throw new ArgumentOutOfRangeException(nameof(family), family, null),
    };

    private static void Append(StringBuilder text, string file, string content) => text.Append(CultureInfo.InvariantCulture, $"#line 1 \"{file}\"\n").Append(content);
}
