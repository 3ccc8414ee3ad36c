using System.Collections.Immutable;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// What keys and values of 8 bits add to a library's text: files, and lines of the kernels, which multiply scales into scores and weights. Calls without them compile the text that they always had.
/// </summary>
internal static class CodeText
{
    /// <summary>What memory holds, defined beside KEY_VALUE_T, which is what codes are computed with as.</summary>
    public const string CodeType = "CODE_T";

    /// <summary>The slot of the keys' scales; that of the values' is the next one, and the last that there is.</summary>
    public const int FirstScaleSlot = 29;

    /// <summary>What codes and scales are, behind the parameter block.</summary>
    public static readonly ImmutableArray<string> HelperFiles = ["codes.metal", "scales.metal"];

    private const string Scores = KernelSource.ScoresFile;

    /// <summary>Whether a library has codes.</summary>
    public static bool IsIn(KernelFunction function) => function.Definitions.Any(static definition => definition.Name is CodeType);

    /// <summary>A file of a library with codes, as edits left it: pointers into memory are to codes.</summary>
    public static string WithCodePointers(string text) => text.Replace("device const KEY_VALUE_T *", $"device const {CodeType} *", StringComparison.Ordinal);

    /// <summary>Lines of the kernel files.</summary>
    public static IEnumerable<TextEdit> Edits() =>
        [.. Parameters(), .. Entries(), .. Rows(), .. Prefill(), .. Decode(), .. Plain()];

    private static IEnumerable<TextEdit> Parameters()
    {
        yield return new(
            "parameters.metal", "struct AttentionParameters {", """
            struct ScalePlaces {
                long sequence_stride;
                ulong start_factor;
                long block_stride;
                long token_stride;
                long head_stride;
                int start_shift;
                int reserved;
            };

            struct AttentionParameters {

            """, Replaces: true);
        yield return new("parameters.metal", "    float soft_cap;", "    ScalePlaces key_scales;\n    ScalePlaces value_scales;\n");
    }

    /// <summary>Scales come in as arguments, and go along with keys and values.</summary>
    private static IEnumerable<TextEdit> Entries()
    {
        foreach (string file in (string[])["plain.metal", "decode_kernel.metal", "prefill_kernel.metal"])
        {
            yield return new(file, "    constant AttentionParameters &parameters [[buffer(14)]],", "    device const float *key_scale [[buffer(29)]],\n    device const float *value_scale [[buffer(30)]],\n");
            yield return new(file, "    KeyRows values = values_of(head, value, block_tables, sequence, parameters);", """
                    keys.scales = scales_of(head, item.sequence, sequence.key_start, key_scale, block_tables, block_size, sequence, parameters.key_scales);
                    values.scales = scales_of(head, item.sequence, sequence.value_start, value_scale, block_tables, block_size, sequence, parameters.value_scales);

                """);
        }
    }

    private static IEnumerable<TextEdit> Rows()
    {
        yield return new(Scores, "    int columns;                        // dimensions of a row", "    ScaleRows scales;\n");
        yield return new(Scores, "    if (columns % 4 == 0 || d + 3 < columns) elements.w = row[d + 3];\n    return elements;\n}", """

            // Four codes, as halves.
            template <typename T4> INLINE T4 load4(device const CODE_T *row, int d, int columns) { return halves_of(load4<CODE_T4, CODE_T>(row, d, columns)); }

            """);
    }

    /// <summary>Codes are widened on their way into threadgroup memory, when all that a thread loads of a key is there. A tile's scales are staged with its keys: a lane has columns of many.</summary>
    private static IEnumerable<TextEdit> Prefill()
    {
        const string File = "prefill.metal";
        yield return new(
            File, "#define STEPS_AHEAD (2 / ROW_BLOCKS)", """
            // Widening takes registers too: E4M3 under queries that are not halves spilled 44 bytes at D = 256 with two steps ahead, 9 times a tile, and 12 with one, once.
            #define HELD_REGISTERS (KEY_STEPS * int(sizeof(factors(QUERY_T(0), QUERY_T(0)))) / 2 + VALUE_FRAGMENTS * 2)
            #define STEPS_AHEAD (ROW_BLOCKS > 1 || HELD_REGISTERS > 60 ? 1 : 2)

            """, Replaces: true);
        yield return new(
            File, "#define STAGED_ELEMENTS (TILE_KEYS * TILE_STRIDE + (int(sizeof(ItemNotes)) + EXCHANGE_BYTES) / int(sizeof(KEY_VALUE_T)))", """

            // Behind that are the scales of the tile's keys and values.
            #define SCALE_BYTES (TILE_KEYS * int(sizeof(float2)))
            #define STAGED_ELEMENTS (TILE_KEYS * TILE_STRIDE + (int(sizeof(ItemNotes)) + EXCHANGE_BYTES + SCALE_BYTES) / int(sizeof(KEY_VALUE_T)))

            """, Replaces: true);
        yield return new(
            File, "// What a row has seen so far: m and l.\nstruct Softmax {\n    float maximum;\n    float sum;              // of the lane's columns; of the row at the end\n};", """

            // Brings the scales of a tile's keys, and of its values, into threadgroup memory, one thread a key; as keys are, those that no row may see are not read.
            INLINE void stage_scales(threadgroup float2 *scales, thread const KeyRows &keys, thread const KeyRows &values, int tile, int start, int end, uint thread_index)
            {
                if (thread_index >= TILE_KEYS) return;
                int key = tile + int(thread_index);
                bool is_run = is_in_one_run(TILE_KEYS);
                float2 pair = float2(0.0f);
                if (key >= start && key < end) {
                    if (has_key_scale) pair.x = scale_in_tile(keys.scales, is_run, tile, key);
                    if (has_value_scale) pair.y = scale_in_tile(values.scales, is_run, tile, key);
                }
                scales[thread_index] = pair;
            }

            INLINE void scale_scores(thread float2 *scores, threadgroup const float2 *scales, int lane_column)
            {
                UNROLL
                for (int f = 0; f < KEY_FRAGMENTS; f++) scores[f] *= float2(scales[f * 8 + lane_column].x, scales[f * 8 + lane_column + 1].x);
            }

            INLINE void scale_weights(thread float2 *weights, threadgroup const float2 *scales, int lane_column)
            {
                UNROLL
                for (int f = 0; f < KEY_FRAGMENTS; f++) {
                    weights[f].x = scaled_weight(weights[f].x, scales[f * 8 + lane_column].y);
                    weights[f].y = scaled_weight(weights[f].y, scales[f * 8 + lane_column + 1].y);
                }
            }

            """);
        yield return new(
            File, "        KEY_VALUE_T4 elements[TURNS];\n        UNROLL\n        for (int turn = 0; turn < TURNS; turn++) elements[turn] = KEY_VALUE_T4(0);",
            "        CODE_T4 elements[TURNS];\n        UNROLL\n        for (int turn = 0; turn < TURNS; turn++) elements[turn] = CODE_T4(0);\n", Replaces: true);
        yield return new(
            File, "            for (int turn = 0; turn < TURNS; turn++) elements[turn] = load4<KEY_VALUE_T4>(from, turn * STAGING_THREADS * 4, rows.columns - column);",
            "            for (int turn = 0; turn < TURNS; turn++) elements[turn] = load4<CODE_T4, CODE_T>(from, turn * STAGING_THREADS * 4, rows.columns - column);\n", Replaces: true);
        yield return new(
            File, "            if (turn * STAGING_THREADS * 4 + column < PADDED_DIM) *(threadgroup KEY_VALUE_T4 *)(to + turn * STAGING_THREADS * 4) = elements[turn];",
            "            FENCE_LOADS(turn);\n            if (turn * STAGING_THREADS * 4 + column < PADDED_DIM) *(threadgroup KEY_VALUE_T4 *)(to + turn * STAGING_THREADS * 4) = IS_VALUE ? finite_halves_of(elements[turn]) : halves_of(elements[turn]);\n", Replaces: true);
        yield return new(File, "            remove_specials<PADDED_DIM>(to, specials, key, column);", "            note_key(specials, key, true);\n", Replaces: true);
        yield return new(
            File, "    threadgroup float2 *exchange = (threadgroup float2 *)(notes + 1) + (row_simdgroup * (EXCHANGE_FRAGMENTS * 32) + int(lane));",
            "    threadgroup float2 *scales = (threadgroup float2 *)(notes + 1) + EXCHANGE_BYTES / int(sizeof(float2));\n");
        yield return new(
            File, "        stage<false, STAGED_KEY_DIM, KEY_STRIDE>(staged, notes, keys, tile, start, end, thread_index);",
            "        if (has_key_scale || has_value_scale) stage_scales(scales, keys, values, tile, start, end, thread_index);\n");
        yield return new(
            File, "                    for (int f = 0; f < KEY_FRAGMENTS; f++) scores[b].fragments[f] += others[b].fragments[f];\n                }",
            "                if (has_key_scale) scale_scores(scores[b].fragments, scales, lane_column);\n");
        yield return new(
            File, "                rescale[b] = weigh(states[b], scores[b].fragments, factor);",
            "                if (has_value_scale) scale_weights(scores[b].fragments, scales, lane_column);\n");
    }

    /// <summary>A lane has the scales of the key of its score, and asks for them before it asks for keys.</summary>
    private static IEnumerable<TextEdit> Decode()
    {
        const string File = "decode.metal";
        yield return new(File, "    elements.w = d + 3 <= last ? elements.w : T(0);\n    return elements;\n}", """

            // Four codes, as halves.
            template <typename T4> INLINE T4 load_chunk(device const CODE_T *row, int chunk, int lane_of_key, int dim, int columns)
            {
                return halves_of(load_chunk<CODE_T4, CODE_T>(row, chunk, lane_of_key, dim, columns));
            }

            """);
        yield return new(File, "    float products[LANES];", """
                int key_of_score = nearest_key(tile + lane_of_key % STEPS * SIDE_BY_SIDE + side, first_key, end_key);
                float key_scale = has_key_scale ? scale_in_tile(keys.scales, is_in_one_run(TILE_KEYS), tile, key_of_score) : 1.0f;
                float value_scale = has_value_scale ? scale_in_tile(values.scales, is_in_one_run(TILE_KEYS), tile, key_of_score) : 1.0f;

            """);
        yield return new(File, "    float score = sum_each(products, lane);", "    if (has_key_scale) score *= key_scale;\n");
        yield return new(
            File,
            "        KEY_VALUE_T4 elements[VALUE_CHUNKS];\n        UNROLL\n        for (int c = 0; c < VALUE_CHUNKS; c++) elements[c] = without_specials(load_chunk<KEY_VALUE_T4>(from, c, lane_of_key, VALUE_DIM, values.columns), key, specials);",
            """
                    KEY_VALUE_T4 elements[VALUE_CHUNKS];
                    uint carries = 0u;
                    UNROLL
                    for (int c = 0; c < VALUE_CHUNKS; c++) {
                        CODE_T4 codes = load_chunk<CODE_T4, CODE_T>(from, c, lane_of_key, VALUE_DIM, values.columns);
                        carries |= carries_of(codes);
                        elements[c] = finite_halves_of(codes);
                    }
                    note_key(specials, key, has_special(carries));

            """, Replaces: true);
        yield return new(File, "    state.sum = fma(state.sum, rescale, weight);", "    if (has_value_scale) weight = scaled_weight(weight, value_scale);\n");
    }

    private static IEnumerable<TextEdit> Plain()
    {
        const string File = "plain.metal";
        yield return new(File, "            score = score_of(score, row, tile, lane, parameters);", """
                        bool has_key = lane >= first && lane < end;
                        if (has_key_scale && has_key) score *= *scale_at(keys.scales, tile + lane);
                        score = score_of(score, row, tile, lane, parameters);

            """, Replaces: true);
        yield return new(
            File, "            sum = fma(sum, rescale, simd_sum(weight));",
            "            if (has_value_scale && has_key) weight = scaled_weight(weight, *scale_at(values.scales, tile + lane));\n");
    }
}
