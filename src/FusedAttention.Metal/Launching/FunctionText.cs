using System.Globalization;
using System.Text;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// What a call's functions add to a library's text: themselves, what they have captured, and lines of the kernels. A table has a buffer slot of its own; parameters and the shapes of tables are behind the fields of the
/// parameter block, in this order: <see cref="FunctionCaptures"/>.
/// </summary>
internal static class FunctionText
{
    /// <summary>The slot of the first table; the others follow.</summary>
    public const int FirstTable = 15;

    /// <summary>The file of what functions are made of.</summary>
    public const string HelperFile = "functions.metal";

    private const string Scores = KernelSource.ScoresFile;

    /// <summary>The functions alone, as text to read.</summary>
    public static string Sources(ScoreForm? score, ScoreForm? keep) =>
        (score is null ? "" : FunctionWriter.Write(score, isMask: false)) + (keep is null ? "" : FunctionWriter.Write(keep, isMask: true));

    /// <summary>Bytes behind <see cref="AttentionParameters"/> of numbers and shapes, as whole words of 8 bytes.</summary>
    public static int CapturedBytes(ScoreForm? score, ScoreForm? keep) => (((score?.Parameters ?? 0) + (keep?.Parameters ?? 0) + (2 * TablesOf(score, keep)) + 1) / 2 * 8);

    /// <summary>How many tables the functions look up between them.</summary>
    public static int TablesOf(ScoreForm? score, ScoreForm? keep) => (score?.Tables ?? 0) + (keep?.Tables ?? 0);

    /// <summary>What stands in front of <c>scores.metal</c>: the operands, and the functions.</summary>
    public static string Declarations(ScoreForm? score, ScoreForm? keep)
    {
        var text = new StringBuilder("#line 1 \"functions of the call\"\n// What the call's functions know of a row beside its place.\nstruct FunctionOperands {\n    int batch;\n");
        foreach (string table in Tables(score, keep)) text.Append(CultureInfo.InvariantCulture, $"    device const float *{table};\n");
        if (score is not null)
        {
            text.Append("""
                    device const QUERY_T *query;        // of the row
                    device const KEY_VALUE_T *key;      // of the row's head
                    device const int *blocks;

                """);
        }

        return text.Append("};\n\n").Append(Sources(score, keep)).ToString();
    }

    /// <summary>Lines of the kernel files.</summary>
    public static IEnumerable<TextEdit> Edits(ScoreForm? score, ScoreForm? keep) =>
        [.. Captured(score, keep), .. Entries(score, keep), .. Rows(score), .. Steps(score), .. score is null ? [] : Again(), .. keep is null ? [] : Skipping()];

    private static IEnumerable<string> Tables(ScoreForm? score, ScoreForm? keep) => Names("score_table", score?.Tables).Concat(Names("mask_table", keep?.Tables));

    private static IEnumerable<string> Names(string name, int? count) => Enumerable.Range(0, count ?? 0).Select(i => string.Create(CultureInfo.InvariantCulture, $"{name}{i}"));

    private static IEnumerable<TextEdit> Captured(ScoreForm? score, ScoreForm? keep)
    {
        var fields = new StringBuilder();
        foreach (string name in Names("score_number", score?.Parameters).Concat(Names("mask_number", keep?.Parameters))) fields.Append(CultureInfo.InvariantCulture, $"    float {name};\n");
        foreach (string name in Tables(score, keep)) fields.Append(CultureInfo.InvariantCulture, $"    int {name}_rows;\n    int {name}_columns;\n");
        if (fields.Length > 0) yield return new("parameters.metal", "    float soft_cap;", fields.ToString());
    }

    /// <summary>Tables come in as arguments. The merge of splits takes none of it.</summary>
    private static IEnumerable<TextEdit> Entries(ScoreForm? score, ScoreForm? keep)
    {
        const string Argument = "    constant AttentionParameters &parameters [[buffer(14)]],", Operands = "    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}};";
        string[] tables = [.. Tables(score, keep)];
        string arguments = string.Concat(tables.Select(static (name, i) => string.Create(CultureInfo.InvariantCulture, $"    device const float *{name} [[buffer({FirstTable + i})]],\n")));
        string functions = string.Join(", ", [.. (string[])["item.sequence"], .. tables, .. score is null ? [] : (string[])["query", "key", "block_tables"]]);
        foreach (string file in (string[])["plain.metal", "decode_kernel.metal", "prefill_kernel.metal"])
        {
            if (tables.Length > 0) yield return new(file, Argument, arguments);
            yield return new(file, Operands, $"    Operands operands = {{mask, bias, log_sum_exp, sink_logits, {{alibi_slopes}}, {{{functions}}}}};\n", Replaces: true);
        }

        yield return new("merge_splits.metal", Operands, "    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}, {}};\n", Replaces: true);
    }

    /// <summary>From the operands to each row.</summary>
    private static IEnumerable<TextEdit> Rows(ScoreForm? score)
    {
        yield return new(Scores, "    AlibiSlopes alibi_slopes;", "    FunctionOperands functions;\n");
        yield return new(Scores, "    device const uchar *bias;           // of key 0, by its type", "    FunctionOperands functions;\n");
        yield return new(Scores, "    row.bias = operands.bias;", "    row.functions = operands.functions;\n" + (score is null ? "" : """
                row.functions.query += sequence.query_start + row.query * parameters.query_token_stride + row.head * parameters.query_head_stride;
                row.functions.key += sequence.key_start + key_value_head * parameters.key_head_stride;
                row.functions.blocks += sequence.block_table_start;

            """));
    }

    /// <summary>The steps of the functions, and what follows for those around them.</summary>
    private static IEnumerable<TextEdit> Steps(ScoreForm? score)
    {
        yield return new(Scores, "INLINE bool modifies_scores() { return has_natural_scores() || has_mask; }", "INLINE bool modifies_scores() { return true; }\n", Replaces: true);
        if (score is null) yield break;
        yield return new(Scores, "INLINE bool has_natural_scores() { return has_soft_cap || has_bias || has_alibi; }", "INLINE bool has_natural_scores() { return true; }\n", Replaces: true);
        yield return new(Scores, "    if (has_bias && score.value < LOWEST_SCORE) return LOWEST_SCORE;", "    if (score.value < LOWEST_SCORE) return LOWEST_SCORE;\n", Replaces: true);
        yield return new(
            Scores, "    if (row.mask[key] == 0) score.is_seen = false;\n}", """

            // s = f(s). Negative infinity hides the key. That of a bias does not where the function makes another number of it.
            INLINE void apply_function(thread Score &score, thread const Row &row, int tile, int j, PARAMETERS parameters)
            {
                if (!score.is_seen) score.value = negative_infinity();
                score.value = score_function(score.value, row.functions, row.head, row.query, int(row.position), tile, j, parameters);
                score.is_seen = !is_negative_infinity(score.value);
            }

            """);
    }

    /// <summary>Where a row's keys are looked at one by one, a score function is asked again: it may hide a key by its score.</summary>
    private static IEnumerable<TextEdit> Again()
    {
        yield return new(
            Scores, "    return score.value;\n}", """

            // The product of a row and a key once more, in an order of its own.
            INLINE float product_of_key(thread const Row &row, int key, PARAMETERS parameters)
            {
                KeyRows keys;
                keys.first = row.functions.key;
                keys.token_stride = parameters.key_token_stride;
                keys.block_stride = parameters.key_block_stride;
                keys.blocks = row.functions.blocks;
                keys.block_size = block_size;
                keys.columns = KEY_DIM;
                device const KEY_VALUE_T *k = key_row(keys, key);
                float product = 0.0f;
                ROLLED
                for (int d = 0; d < KEY_DIM; d++) product = fma(widen(row.functions.query[d]), widen(k[d]), product);
                return product;
            }

            """);
        yield return new(
            Scores, "    return as_type<uint>(score_of(0.0f, row, key, 0, parameters)) != as_type<uint>(NEVER_SEEN);",
            "    return as_type<uint>(score_of(product_of_key(row, key, parameters), row, key, 0, parameters)) != as_type<uint>(NEVER_SEEN);\n", Replaces: true);
    }

    /// <summary>A mask function is asked before the products whether it leaves a tile empty. Then the tile is neither read nor computed.</summary>
    private static IEnumerable<TextEdit> Skipping()
    {
        yield return new(
            Scores, "INLINE float unit_of_scores(PARAMETERS parameters) { return has_natural_scores() ? 1.0f : parameters.scale; }", """

            // Whether positions and the mask function let a row see key tile + j.
            INLINE bool keeps_key(thread const Row &row, int tile, int j, PARAMETERS parameters)
            {
                int key = tile + j;
                return key >= row.start && key < row.end && mask_function(row.functions, row.head, row.query, int(row.position), tile, j, parameters);
            }

            """);
        yield return new("plain.metal", "            int end = min(row.end - tile, 32);", "            if (!simd_any(keeps_key(row, tile, lane, parameters))) continue;\n");
        yield return new(
            "decode.metal", "    for (int tile = (item.first_key / TILE_KEYS + slice) * TILE_KEYS; tile < item.end_key; tile += slices * TILE_KEYS) {",
            "        if (!simd_any(keeps_key(row, tile, lane_of_key % STEPS * SIDE_BY_SIDE + side, parameters))) continue;\n");
        yield return new("prefill.metal", "    int reserved;", "    atomic_int kept_tile;               // 1 behind the first key of a tile of which somebody's rows keep a key\n", Replaces: true);
        yield return new(
            "prefill.metal", "// What a row has seen so far: m and l.\nstruct Softmax {\n    float maximum;\n    float sum;              // of the lane's columns; of the row at the end\n};", """

            // Whether a lane's rows keep one of its keys of a tile.
            INLINE bool keeps_keys(thread const Row *rows, int tile, int lane_column, PARAMETERS parameters)
            {
                bool keeps = false;
                UNROLL
                for (int b = 0; b < ROW_BLOCKS; b++) {
                    UNROLL
                    for (int f = 0; f < KEY_FRAGMENTS; f++) {
                        keeps = keeps_key(rows[b], tile + lane_column, f * 8, parameters) || keeps;
                        keeps = keeps_key(rows[b], tile + lane_column, f * 8 + 1, parameters) || keeps;
                    }
                }
                return keeps;
            }

            """);
        yield return new(
            "prefill.metal", "        atomic_store_explicit(&notes->end_special, no_keys().end, memory_order_relaxed);", "        atomic_store_explicit(&notes->kept_tile, 0, memory_order_relaxed);\n");

        // Nobody writes the mark again before all have read it, unless all of them leave the tile out: then what is read is the mark of another tile either way.
        yield return new(
            "prefill.metal", "        float rescale[ROW_BLOCKS];", """
                    if (sees_tile) sees_tile = simd_any(keeps_keys(rows, tile, lane_column, parameters));
                    if (sees_tile && lane == 0) atomic_store_explicit(&notes->kept_tile, tile + 1, memory_order_relaxed);
                    threadgroup_barrier(mem_flags::mem_threadgroup);
                    if (atomic_load_explicit(&notes->kept_tile, memory_order_relaxed) != tile + 1) continue;

            """);
    }
}
