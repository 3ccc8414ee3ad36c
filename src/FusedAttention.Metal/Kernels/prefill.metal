// Attention of a block of rows against all their keys, tile by tile: S = Q K^T, online softmax, O = O * exp(m - m') + P V (Dao et al. 2022, arXiv:2205.14135).
//
// A threadgroup has SIMDGROUPS x ROW_BLOCKS x 8 rows: queries times the heads of a group, so a tile of K or V serves all of them. Keys and values take turns in one buffer of
// threadgroup memory; Q, S and O stay in registers, in the lane map of fragments.metal: a lane has one row of each block of 8, and two columns of each 8 x 8 fragment of it.
// A fragment of K or V serves all blocks of a simdgroup. Registers of a lane and block, in floats: Q KEY_DIM / 4 (half that in 16 bits), O VALUE_DIM / 4, S TILE_KEYS / 4; with D = 128 in 16 bits, 16 + 32 + 4.
// Halves are multiplied as they are.
//
// Per tile: stage K | S = Q K^T | stage V, softmax | O += P V, a barrier at each bar. Device memory sees each key and value once per block of rows.
//
// QUERY_T, KEY_VALUE_T, KEY_DIM, VALUE_DIM, TILE_KEYS, SIMDGROUPS and ROW_BLOCKS come from the host.

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
INLINE void load_queries(thread QUERY_T4 *steps, device const QUERY_T *from, int columns, int lane_column)
{
    UNROLL
    for (int step = 0; step < KEY_STEPS; step++) steps[step] = load4<QUERY_T4>(from, step * 16 + lane_column * 2, columns);
}

// A lane's share of a block of 8 rows: queries, 16 dimensions a step; scores, then weights, of a tile; outputs.
struct Queries {
    QUERY_T4 steps[KEY_STEPS];
};

struct Scores {
    float2 fragments[KEY_FRAGMENTS];
};

struct Outputs {
    float2 fragments[VALUE_FRAGMENTS];
};

// S = Q K^T for the tile in threadgroup memory.
INLINE void multiply_keys(thread Scores *scores, thread const Queries *queries, threadgroup const KEY_VALUE_T *staged, int lane_row, int lane_column)
{
    UNROLL
    for (int b = 0; b < ROW_BLOCKS; b++) {
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) scores[b].fragments[f] = float2(0.0f);
    }
    UNROLL
    for (int first = 0; first < KEY_STEPS; first += STEPS_OF_A_SUM) {
        Scores sums[ROW_BLOCKS];
        UNROLL
        for (int b = 0; b < ROW_BLOCKS; b++) {
            UNROLL
            for (int f = 0; f < KEY_FRAGMENTS; f++) sums[b].fragments[f] = float2(0.0f);
        }
        UNROLL
        for (int step = first; step < first + STEPS_OF_A_SUM; step++) {
            if (step >= KEY_STEPS) continue;
            UNROLL
            for (int f = 0; f < KEY_FRAGMENTS; f++) {
                threadgroup const KEY_VALUE_T *key = staged + ((f * 8 + lane_column) * KEY_STRIDE + step * 16 + lane_row * 2);
                KEY_VALUE_T2 k0 = *(threadgroup const KEY_VALUE_T2 *)key;
                KEY_VALUE_T2 k1 = *(threadgroup const KEY_VALUE_T2 *)(key + KEY_STRIDE);
                UNROLL
                for (int b = 0; b < ROW_BLOCKS; b++) {
                    QUERY_T4 q = queries[b].steps[step];
                    sums[b].fragments[f] = multiply_add(factors(q.x, q.z), factors(k0.x, k1.x), sums[b].fragments[f]);
                    sums[b].fragments[f] = multiply_add(factors(q.y, q.w), factors(k0.y, k1.y), sums[b].fragments[f]);
                }
            }
        }
        UNROLL
        for (int b = 0; b < ROW_BLOCKS; b++) {
            UNROLL
            for (int f = 0; f < KEY_FRAGMENTS; f++) scores[b].fragments[f] += sums[b].fragments[f];
        }
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

// What a row has seen so far: m and l.
struct Softmax {
    float maximum;
    float sum;              // of the lane's columns; of the row at the end
};

// P = exp(S - m), and what the sums so far are multiplied with for it.
INLINE float weigh(thread Softmax &state, thread float2 *scores, float factor)
{
    float tile_maximum = NEVER_SEEN;
    UNROLL
    for (int f = 0; f < KEY_FRAGMENTS; f++) tile_maximum = max(tile_maximum, max(scores[f].x, scores[f].y));
    float new_maximum = max(state.maximum, max_of_row(tile_maximum));
    float base = base_of(new_maximum);
    float rescale = weight_of(state.maximum, base, factor);
    state.maximum = new_maximum;
    state.sum *= rescale;
    UNROLL
    for (int f = 0; f < KEY_FRAGMENTS; f++) {
        scores[f] = float2(weight_of(scores[f].x, base, factor), weight_of(scores[f].y, base, factor));
        state.sum += scores[f].x + scores[f].y;
    }
    return rescale;
}

// O = O * rescale + P V: the tile is summed on its own and then added.
INLINE void multiply_values(
    thread Outputs *outputs, thread const Scores *weights, thread const float *rescale, threadgroup const KEY_VALUE_T *staged, int lane_row, int lane_column)
{
    UNROLL
    for (int d = 0; d < VALUE_FRAGMENTS; d++) {
        float2 sums[ROW_BLOCKS];
        UNROLL
        for (int b = 0; b < ROW_BLOCKS; b++) sums[b] = float2(0.0f);
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) {
            KEY_VALUE_T2 v = *(threadgroup const KEY_VALUE_T2 *)(staged + ((f * 8 + lane_row) * VALUE_STRIDE + d * 8 + lane_column));
            UNROLL
            for (int b = 0; b < ROW_BLOCKS; b++) sums[b] = multiply_add(weights[b].fragments[f], factors(v.x, v.y), sums[b]);
        }
        UNROLL
        for (int b = 0; b < ROW_BLOCKS; b++) outputs[b].fragments[d] = fma(outputs[b].fragments[d], float2(rescale[b]), sums[b]);
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
    int first = item.first_row + int(simdgroup_index) * (ROW_BLOCKS * 8);
    int last = min(first + ROW_BLOCKS * 8, item.end_row) - 1;
    bool has_rows = first <= last;
    long first_position = sequence.query_offset + first / parameters.group;
    long last_position = sequence.query_offset + last / parameters.group;
    int start_of_any = first_key_of(first_position, sequence.key_length, parameters);
    int start_of_all = first_key_of(last_position, sequence.key_length, parameters);
    int end_of_all = end_key_of(first_position, sequence.key_length, parameters);
    int end_of_any = end_key_of(last_position, sequence.key_length, parameters);
    int start = first_key_of(sequence.query_offset + item.first_row / parameters.group, sequence.key_length, parameters);
    int end = end_key_of(sequence.query_offset + (item.end_row - 1) / parameters.group, sequence.key_length, parameters);

    // The lane's rows; lanes without one repeat the item's last row and store nothing.
    int lane_row = row_of_lane(lane);
    int lane_column = column_of_lane(lane);
    Row rows[ROW_BLOCKS];
    Queries queries[ROW_BLOCKS];
    Softmax states[ROW_BLOCKS];
    Outputs outputs[ROW_BLOCKS];
    UNROLL
    for (int b = 0; b < ROW_BLOCKS; b++) {
        rows[b] = row_at(min(first + b * 8 + lane_row, item.end_row - 1), head, sequence, operands, parameters);
        device const QUERY_T *from = query + (sequence.query_start + rows[b].query * parameters.query_token_stride + rows[b].head * parameters.query_head_stride);
        load_queries(queries[b].steps, from, keys.columns, lane_column);
        states[b].maximum = NEVER_SEEN;
        states[b].sum = 0.0f;
        UNROLL
        for (int d = 0; d < VALUE_FRAGMENTS; d++) outputs[b].fragments[d] = float2(0.0f);
    }

    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;
    KeySpan specials = no_keys();       // of what the thread has staged; of the block at the end
    for (int tile = start / TILE_KEYS * TILE_KEYS; tile < end; tile += TILE_KEYS) {
        bool sees_tile = has_rows && tile < end_of_any && tile + TILE_KEYS > start_of_any;
        bool sees_whole_tile = tile >= start_of_all && tile + TILE_KEYS <= end_of_all;
        Scores scores[ROW_BLOCKS];
        float rescale[ROW_BLOCKS];

        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<false, KEY_STEPS * 16, KEY_STRIDE>(staged, specials, keys, tile, start, end, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sees_tile) multiply_keys(scores, queries, staged, lane_row, lane_column);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<true, VALUE_DIM, VALUE_STRIDE>(staged, specials, values, tile, start, end, thread_index);
        if (sees_tile) {
            UNROLL
            for (int b = 0; b < ROW_BLOCKS; b++) {
                if (modifies_scores() || !sees_whole_tile) modify_scores(scores[b].fragments, rows[b], tile, lane_column, parameters);
                rescale[b] = weigh(states[b], scores[b].fragments, factor);
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sees_tile) multiply_values(outputs, scores, rescale, staged, lane_row, lane_column);
    }

    share_span(special_keys, specials, simdgroup_index, lane);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    specials = span_of_all(special_keys);

    UNROLL
    for (int b = 0; b < ROW_BLOCKS; b++) {
        RowEnd row_end = end_of_row(states[b].maximum, sum_of_row(states[b].sum), unit, rows[b], operands);
        if (first + b * 8 + lane_row >= item.end_row) continue;
        device QUERY_T *to = output_row(output, rows[b], sequence, parameters);
        UNROLL
        for (int d = 0; d < VALUE_FRAGMENTS; d++) {
            int column = d * 8 + lane_column;
            if (column < values.columns) to[column] = narrow<QUERY_T>(outputs[b].fragments[d].x * row_end.factor);
            if (column + 1 < values.columns) to[column + 1] = narrow<QUERY_T>(outputs[b].fragments[d].y * row_end.factor);
        }
        add_specials<2, 8>(to, rows[b], values, specials, lane_column, parameters);
        if (has_log_sum_exp && lane_column == 0) store_log_sum_exp(row_end.log_sum_exp, rows[b], operands, sequence, parameters);
    }
}
