// Attention of a block of rows against all their keys, tile by tile: S = Q K^T, online softmax, O = O * exp(m - m') + P V (Dao et al. 2022, arXiv:2205.14135).
//
// A threadgroup has SIMDGROUPS x 8 rows: queries times the heads of a group, so a tile of K or V serves all of them. Keys and values take turns in one buffer of
// threadgroup memory; Q, S and O stay in registers, in the lane map of fragments.metal: a lane has one row, and two columns of each 8 x 8 fragment of it.
// Registers of a lane, in floats: Q KEY_DIM / 4 (half that in 16 bits), O VALUE_DIM / 4, S TILE_KEYS / 4; with D = 128 in 16 bits, 16 + 32 + 8. Halves are multiplied as they are.
//
// Per tile: stage K | S = Q K^T | stage V, softmax | O += P V, a barrier at each bar. Device memory sees each key and value once per block of rows.
//
// QUERY_T, KEY_VALUE_T, KEY_DIM, VALUE_DIM, TILE_KEYS and SIMDGROUPS come from the host.

#define THREADS (SIMDGROUPS * 32)
#define QUERY_T4 VECTOR_OF(QUERY_T, 4)
#define KEY_VALUE_T2 VECTOR_OF(KEY_VALUE_T, 2)
#define KEY_VALUE_T4 VECTOR_OF(KEY_VALUE_T, 4)

// Products take 16 dimensions at a time, two fragments: fragment 0 those with even numbers, fragment 1 the odd ones. So a lane's elements of both, in K as it lies
// in memory, are neighbours, and K need not be transposed. What is beyond KEY_DIM is zero.
#define KEY_STEPS ((KEY_DIM + 15) / 16)
#define KEY_FRAGMENTS (TILE_KEYS / 8)
#define VALUE_FRAGMENTS (VALUE_DIM / 8)

// One chain of sums over more than 128 dimensions loses too much (512 dimensions: 1.0e-5 where 7.7e-6 are allowed).
#define STEPS_OF_A_SUM 8

// Rows in threadgroup memory have 16 bytes more than they need: in 16 bits, and with dimensions that are multiples of 16, the 32 lanes of a load of K (4 pairs of
// keys x 8 words) or V (8 keys x 4 words) then hit 32 different banks of 4 bytes.
#define ROW_PADDING int(16 / sizeof(KEY_VALUE_T))
#define KEY_STRIDE (KEY_STEPS * 16 + ROW_PADDING)
#define VALUE_STRIDE (VALUE_DIM + ROW_PADDING)
#define TILE_STRIDE (KEY_STRIDE > VALUE_STRIDE ? KEY_STRIDE : VALUE_STRIDE)

// Puts zeros in place of special values among what a thread has staged itself. Seldom needed, so it is a loop and no part of the staging.
template <int PADDED_DIM, int STRIDE>
INLINE void remove_specials(threadgroup KEY_VALUE_T *staged, thread KeySpan &specials, int tile, uint thread_index)
{
    constexpr uint CHUNKS = PADDED_DIM / 4;
    for (uint i = thread_index; i < TILE_KEYS * CHUNKS; i += THREADS) {
        int j = int(i / CHUNKS);
        threadgroup KEY_VALUE_T4 *chunk = (threadgroup KEY_VALUE_T4 *)(staged + (j * STRIDE + int(i % CHUNKS * 4)));
        *chunk = without_specials(*chunk, tile + j, specials);
    }
}

// Brings the rows of a tile into threadgroup memory. Keys outside [start, end) are no row's to see: they are not read, and are zeros. Values are staged without special
// ones (specials.metal); keys as they are, because what they do to scores that no row may see is replaced with those scores.
template <bool IS_VALUE, int PADDED_DIM, int STRIDE>
INLINE void stage(threadgroup KEY_VALUE_T *staged, thread KeySpan &specials, thread const KeyRows &rows, int tile, int start, int end, uint thread_index)
{
    bool is_run = is_in_one_run(rows, TILE_KEYS);
    device const KEY_VALUE_T *base = is_run ? key_row(rows, tile) : rows.first;
    // Unrolled, so that all loads of a thread are under way at once; only the last turn may have threads without work. Unsigned, so that dividing needs no second thoughts.
    constexpr uint CHUNKS = PADDED_DIM / 4;
    uint carries = 0u;
    UNROLL
    for (uint n = 0; n < TILE_KEYS * CHUNKS; n += THREADS) {
        uint i = n + thread_index;
        if (i >= TILE_KEYS * CHUNKS) continue;
        int j = int(i / CHUNKS);
        int d = int(i % CHUNKS * 4);
        int key = tile + j;
        KEY_VALUE_T4 elements = KEY_VALUE_T4(0);
        if (key >= start && key < end) elements = load4<KEY_VALUE_T4>(is_run ? row_of_run(rows, base, j) : key_row(rows, key), d, rows.columns);
        if (IS_VALUE) carries |= carries_of(elements);
        *(threadgroup KEY_VALUE_T4 *)(staged + (j * STRIDE + d)) = elements;
    }
    if (IS_VALUE && has_special(carries)) remove_specials<PADDED_DIM, STRIDE>(staged, specials, tile, thread_index);
}

// A lane's share of Q: of its row and each 16 dimensions the four that its two columns stand for, in both fragments.
INLINE void load_queries(thread QUERY_T4 *query_row, device const QUERY_T *from, int columns, int lane_column)
{
    UNROLL
    for (int step = 0; step < KEY_STEPS; step++) query_row[step] = load4<QUERY_T4>(from, step * 16 + lane_column * 2, columns);
}

// S = Q K^T for the tile in threadgroup memory.
INLINE void multiply_keys(thread float2 *scores, thread const QUERY_T4 *query_row, threadgroup const KEY_VALUE_T *staged, int lane_row, int lane_column)
{
    UNROLL
    for (int f = 0; f < KEY_FRAGMENTS; f++) scores[f] = float2(0.0f);
    UNROLL
    for (int first = 0; first < KEY_STEPS; first += STEPS_OF_A_SUM) {
        float2 sums[KEY_FRAGMENTS];
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) sums[f] = float2(0.0f);
        UNROLL
        for (int step = first; step < first + STEPS_OF_A_SUM; step++) {
            if (step >= KEY_STEPS) continue;
            QUERY_T4 q = query_row[step];
            UNROLL
            for (int f = 0; f < KEY_FRAGMENTS; f++) {
                threadgroup const KEY_VALUE_T *key = staged + ((f * 8 + lane_column) * KEY_STRIDE + step * 16 + lane_row * 2);
                KEY_VALUE_T2 k0 = *(threadgroup const KEY_VALUE_T2 *)key;
                KEY_VALUE_T2 k1 = *(threadgroup const KEY_VALUE_T2 *)(key + KEY_STRIDE);
                sums[f] = multiply_add(factors(q.x, q.z), factors(k0.x, k1.x), sums[f]);
                sums[f] = multiply_add(factors(q.y, q.w), factors(k0.y, k1.y), sums[f]);
            }
        }
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) scores[f] += sums[f];
    }
}

// Scale, soft cap, bias, ALiBi, masks and reach.
INLINE void modify_scores(thread float2 *scores, thread const Row &row, int tile, int lane_column, PARAMETERS parameters)
{
    UNROLL
    for (int f = 0; f < KEY_FRAGMENTS; f++) {
        scores[f].x = score_of(scores[f].x, row, tile, f * 8 + lane_column, parameters);
        scores[f].y = score_of(scores[f].y, row, tile, f * 8 + lane_column + 1, parameters);
    }
}

// O = O * rescale + P V: the tile is summed on its own and then added.
INLINE void multiply_values(
    thread float2 *outputs, thread const float2 *weights, float rescale, threadgroup const KEY_VALUE_T *staged, int lane_row, int lane_column)
{
    UNROLL
    for (int d = 0; d < VALUE_FRAGMENTS; d++) {
        float2 sums = float2(0.0f);
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) {
            KEY_VALUE_T2 v = *(threadgroup const KEY_VALUE_T2 *)(staged + ((f * 8 + lane_row) * VALUE_STRIDE + d * 8 + lane_column));
            sums = multiply_add(weights[f], factors(v.x, v.y), sums);
        }
        outputs[d] = fma(outputs[d], float2(rescale), sums);
    }
}

// One item: a block of rows of one sequence and one key/value head. All threads of the threadgroup come here together.
INLINE void attend_block(
    device const QUERY_T *query,
    thread const KeyRows &keys,
    thread const KeyRows &values,
    device QUERY_T *output,
    int head,
    thread const WorkItem &item,
    thread const SequenceEntry &sequence,
    thread const Operands &operands,
    PARAMETERS parameters,
    threadgroup KEY_VALUE_T *staged,
    threadgroup int2 *special_keys,
    uint thread_index,
    uint simdgroup_index,
    uint lane)
{
    // What the block may see, and what every and any row of the simdgroup may see. Both ends of a reach grow with the query.
    int first = item.first_row + int(simdgroup_index) * 8;
    int last = min(first + 8, item.end_row) - 1;
    bool has_rows = first <= last;
    long first_position = sequence.query_offset + first / parameters.group;
    long last_position = sequence.query_offset + last / parameters.group;
    int start_of_any = first_key_of(first_position, sequence.key_length, parameters);
    int start_of_all = first_key_of(last_position, sequence.key_length, parameters);
    int end_of_all = end_key_of(first_position, sequence.key_length, parameters);
    int end_of_any = end_key_of(last_position, sequence.key_length, parameters);
    int start = first_key_of(sequence.query_offset + item.first_row / parameters.group, sequence.key_length, parameters);
    int end = end_key_of(sequence.query_offset + (item.end_row - 1) / parameters.group, sequence.key_length, parameters);

    // The lane's row; lanes without one repeat the item's last row and store nothing.
    int lane_row = row_of_lane(lane);
    int lane_column = column_of_lane(lane);
    bool stores = first + lane_row < item.end_row;
    Row row = row_at(min(first + lane_row, item.end_row - 1), head, sequence, operands, parameters);
    QUERY_T4 query_row[KEY_STEPS];
    device const QUERY_T *from = query + (sequence.query_start + row.query * parameters.query_token_stride + row.head * parameters.query_head_stride);
    load_queries(query_row, from, keys.columns, lane_column);

    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;
    float maximum = NEVER_SEEN;
    float sum = 0.0f;                   // of the lane's columns; of the row at the end
    float2 outputs[VALUE_FRAGMENTS];
    UNROLL
    for (int d = 0; d < VALUE_FRAGMENTS; d++) outputs[d] = float2(0.0f);

    KeySpan specials = no_keys();       // of what the thread has staged; of the block at the end
    for (int tile = start / TILE_KEYS * TILE_KEYS; tile < end; tile += TILE_KEYS) {
        bool sees_tile = has_rows && tile < end_of_any && tile + TILE_KEYS > start_of_any;
        bool sees_whole_tile = tile >= start_of_all && tile + TILE_KEYS <= end_of_all;
        float2 scores[KEY_FRAGMENTS];
        float rescale = 1.0f;

        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<false, KEY_STEPS * 16, KEY_STRIDE>(staged, specials, keys, tile, start, end, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sees_tile) multiply_keys(scores, query_row, staged, lane_row, lane_column);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<true, VALUE_DIM, VALUE_STRIDE>(staged, specials, values, tile, start, end, thread_index);
        if (sees_tile) {
            if (modifies_scores() || !sees_whole_tile) modify_scores(scores, row, tile, lane_column, parameters);
            float tile_maximum = NEVER_SEEN;
            UNROLL
            for (int f = 0; f < KEY_FRAGMENTS; f++) tile_maximum = max(tile_maximum, max(scores[f].x, scores[f].y));
            float new_maximum = max(maximum, max_of_row(tile_maximum));
            float base = base_of(new_maximum);
            rescale = weight_of(maximum, base, factor);
            maximum = new_maximum;
            sum *= rescale;
            UNROLL
            for (int f = 0; f < KEY_FRAGMENTS; f++) {
                scores[f] = float2(weight_of(scores[f].x, base, factor), weight_of(scores[f].y, base, factor));
                sum += scores[f].x + scores[f].y;
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sees_tile) multiply_values(outputs, scores, rescale, staged, lane_row, lane_column);
    }

    share_span(special_keys, specials, simdgroup_index, lane);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    specials = span_of_all(special_keys);

    RowEnd row_end = end_of_row(maximum, sum_of_row(sum), unit, row, operands);
    if (!stores) return;
    device QUERY_T *to = output_row(output, row, sequence, parameters);
    UNROLL
    for (int d = 0; d < VALUE_FRAGMENTS; d++) {
        int column = d * 8 + lane_column;
        if (column < values.columns) to[column] = narrow<QUERY_T>(outputs[d].x * row_end.factor);
        if (column + 1 < values.columns) to[column + 1] = narrow<QUERY_T>(outputs[d].y * row_end.factor);
    }
    add_specials<2, 8>(to, row, values, specials, lane_column, parameters);
    if (has_log_sum_exp && lane_column == 0) store_log_sum_exp(row_end.log_sum_exp, row, operands, sequence, parameters);
}
