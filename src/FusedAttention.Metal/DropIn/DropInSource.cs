using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;

namespace FusedAttention.Metal.DropIn;

/// <summary>
/// One Metal file that stands alone, for hosts in any language: the entry points <c>fused_attention</c>, <c>fused_attention_f16</c>, <c>fused_attention_batched</c> and <c>paged_attention</c> over the
/// library's own kernels. Those are pasted in once for each head dimension and variant, in a namespace of its own, with their function constants fixed in the text.
/// </summary>
internal static partial class DropInSource
{
    /// <summary>Simdgroups of a threadgroup: 256 threads, and with eight rows each 64 queries.</summary>
    private const int Simdgroups = 8;

    /// <summary>The function constants that are the same in all variants.</summary>
    private static readonly ImmutableArray<SourceDefinition> FixedConstants =
    [
        new("FIXED_has_mask", "false"),
        new("FIXED_has_bias", "false"),
        new("FIXED_has_soft_cap", "false"),
        new("FIXED_has_sinks", "false"),
        new("FIXED_has_log_sum_exp", "false"),
        new("FIXED_bias_type", "0"),
    ];

    private static readonly ImmutableArray<string> PrefillFiles = ["scores.metal", "rows.metal", "specials.metal", "prefill.metal", "drop_in_queries.metal"];
    private static readonly ImmutableArray<string> DecodeFiles = ["scores.metal", "rows.metal", "specials.metal", "splits.metal", "decode.metal", "drop_in_token.metal"];

    /// <summary>Copies of the kernels for one head dimension: most calls, those with ALiBi, and those that load elements one by one, or have a scale that scores cannot wait for.</summary>
    private static readonly ImmutableArray<Variant> Variants =
    [
        new("scaled", PrefillFiles, HasAlibi: false, IsAligned: true),
        new("alibi", PrefillFiles, HasAlibi: true, IsAligned: true),
        new("general", PrefillFiles, HasAlibi: true, IsAligned: false),
        new("paged", DecodeFiles, HasAlibi: false, IsAligned: true),
        new("paged_general", DecodeFiles, HasAlibi: true, IsAligned: false),
    ];

    /// <summary>The head dimensions of a file that is asked for without any: up to 128, as the originals have it.</summary>
    public static ImmutableArray<int> DefaultHeadDims { get; } = [64, 128];

    /// <summary>Whether the kernels have tiles for a head dimension. A call's own may be any number up to the largest of the file.</summary>
    public static bool Takes(int headDim) => Prefill(headDim) is not null && Decode(headDim) is not null;

    /// <summary>The file.</summary>
    /// <param name="headDims">The head dimensions to have copies for, each of which <see cref="Takes"/>; a call runs in the smallest that is large enough.</param>
    /// <exception cref="ArgumentException">There is none, or the kernels do not take one.</exception>
    public static string Compose(params ReadOnlySpan<int> headDims)
    {
        int[] dims = [.. new SortedSet<int>(headDims.ToArray())];
        if (dims.Length == 0) throw new ArgumentException("The drop-in file needs a head dimension.", nameof(headDims));
        foreach (int dim in dims)
        {
            if (!Takes(dim)) throw new ArgumentException($"The drop-in's kernels take head dimensions that are multiples of 8 from 32 to 256, with enough common factors; {dim} is none.", nameof(headDims));
        }

        int stagedBytes = dims.Max(static dim => Prefill(dim)!.Value.ThreadgroupBytes);
        var text = new StringBuilder(DropInHeader.Of(dims, stagedBytes));
        var explained = new HashSet<string>(StringComparer.Ordinal);
        Append(text, KernelSource.Includes);
        text.Append("\n#define FUSED_ATTENTION_STANDS_ALONE\n");
        Define(text, [new("QUERY_T", "half"), new("KEY_VALUE_T", "half"), KernelLibrary.Define("SIMDGROUPS", Simdgroups), KernelLibrary.Define("ROW_BLOCKS", 1), KernelLibrary.Define("DIM_PARTS", 1), .. FixedConstants]);
        foreach (string file in (string[])[.. KernelSource.Shared, "special_values.metal", "fragments.metal", "drop_in_slopes.metal", "drop_in.metal"]) Append(text, file);
        foreach (int dim in dims)
        {
            foreach (Variant variant in Variants) AppendVariant(text, variant, dim, explained);
        }

        text.Append(CultureInfo.InvariantCulture, $"\n#define HEAD_DIMS(of) {string.Join(' ', dims.Select(static dim => $"of({dim})"))}\n");
        Define(
            text,
            [
                KernelLibrary.Define("LARGEST_HEAD_DIM", dims[^1]),
                KernelLibrary.Define("STAGED_BYTES", stagedBytes),
                KernelLibrary.Define("MOST_SHARED_OUTPUTS", Simdgroups / 2 * dims[^1] / TileTable.VectorElements),
            ]);
        Append(text, "drop_in_kernels.metal");
        return text.ToString();
    }

    /// <summary>One block of rows a simdgroup, with all dimensions: 64 queries a threadgroup, as the originals have it.</summary>
    private static PrefillTile? Prefill(int dim) => TileTable.Prefill(dim, dim, AttentionElementType.Float16, rowBlocks: 1, dimParts: 1);

    private static DecodeTile? Decode(int dim) => TileTable.Decode(dim, dim, AttentionElementType.Float16);

    /// <param name="text">Receives the copy.</param>
    /// <param name="variant">Which one.</param>
    /// <param name="dim">For head dimensions up to this.</param>
    /// <param name="explained">Files that the text has with their comments, which once is enough for.</param>
    private static void AppendVariant(StringBuilder text, in Variant variant, int dim, HashSet<string> explained)
    {
        ImmutableArray<SourceDefinition> definitions =
        [
            new("FIXED_has_alibi", variant.HasAlibi ? "true" : "false"),
            new("FIXED_is_aligned", variant.IsAligned ? "true" : "false"),
            new("FIXED_block_size", variant.Files == PrefillFiles ? "0" : "-1"),
            KernelLibrary.Define("KEY_DIM", dim),
            KernelLibrary.Define("VALUE_DIM", dim),
            .. variant.Files == PrefillFiles
                ? [KernelLibrary.Define("TILE_KEYS", Prefill(dim)!.Value.Keys)]
                : (ImmutableArray<SourceDefinition>)[KernelLibrary.Define("LANES", Decode(dim)!.Value.Lanes), KernelLibrary.Define("ROWS", 1)],
        ];
        text.Append('\n');
        Define(text, definitions);
        text.Append(CultureInfo.InvariantCulture, $"namespace {variant.Name}_{dim} {{\n");
        int start = text.Length;
        foreach (string file in variant.Files) Append(text, file, isExplained: explained.Add(file));
        string body = text.ToString(start, text.Length - start);
        text.Append(CultureInfo.InvariantCulture, $"\n}} // namespace {variant.Name}_{dim}\n");

        // The next copy defines them anew.
        foreach (string name in definitions.Select(static definition => definition.Name).Concat(Macro().Matches(body).Select(static match => match.Groups["name"].Value)))
        {
            text.Append(CultureInfo.InvariantCulture, $"#undef {name}\n");
        }
    }

    private static void Define(StringBuilder text, ImmutableArray<SourceDefinition> definitions)
    {
        foreach (SourceDefinition definition in definitions) text.Append(CultureInfo.InvariantCulture, $"#define {definition.Name} {definition.Value}\n");
    }

    /// <summary>A file without the marks that name ours in the compiler's messages: whoever has this file has no other.</summary>
    private static void Append(StringBuilder text, string file, bool isExplained = true)
    {
        string lines = LineMark().Replace(KernelSource.File(file), "");
        text.Append('\n').Append(isExplained ? lines : CommentLine().Replace(lines, ""));
    }

    [GeneratedRegex(@"^#line .*\n", RegexOptions.Multiline | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex LineMark();

    [GeneratedRegex(@"^ *//.*\n", RegexOptions.Multiline | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex CommentLine();

    [GeneratedRegex(@"^#define (?<name>\w+)", RegexOptions.Multiline | RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Macro();

    private readonly record struct Variant(string Name, ImmutableArray<string> Files, bool HasAlibi, bool IsAligned);
}
