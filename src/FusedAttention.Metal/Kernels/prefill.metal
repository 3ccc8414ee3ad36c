// Attention of a block of rows against all their keys, tile by tile: S = Q K^T, online softmax, O = O * exp(m - m') + P V (Dao et al. 2022, arXiv:2205.14135).
//
// A threadgroup has SIMDGROUPS / DIM_PARTS x ROW_BLOCKS x 8 rows: queries times the heads of a group, so a tile of K or V serves all of them. Keys and values take turns in one buffer of
// threadgroup memory; Q, S and O stay in registers, in the lane map of fragments.metal: a lane has one row of each block of 8, and two columns of each 8 x 8 fragment of it.
// A fragment of K or V serves all blocks of a simdgroup. Registers of a lane and block, in floats: Q KEY_DIM / 4 (half that in 16 bits), O VALUE_DIM / 4, S TILE_KEYS / 4; with D = 128 in 16 bits, 16 + 32 + 4.
// Halves are multiplied as they are.
//
// Where that is too much, two simdgroups have the same rows and half of the dimensions each (DIM_PARTS 2): of Q and O, hence of the sums of S. The second one hands its sums to the first, which
// has the rows' softmax and hands back the weights, through threadgroup memory and by the barriers that are there anyway.
//
// Per tile: stage K | S = Q K^T | stage V, softmax | O += P V, a barrier at each bar. Device memory sees each key and value once per block of rows.
//
// QUERY_T, KEY_VALUE_T, KEY_DIM, VALUE_DIM, TILE_KEYS, SIMDGROUPS, ROW_BLOCKS and DIM_PARTS come from the host.

#define THREADS (SIMDGROUPS * 32)
#define QUERY_T4 VECTOR_OF(QUERY_T, 4)
#define KEY_VALUE_T2 VECTOR_OF(KEY_VALUE_T, 2)
#define KEY_VALUE_T4 VECTOR_OF(KEY_VALUE_T, 4)

#define ROW_SIMDGROUPS (SIMDGROUPS / DIM_PARTS)

// Products take 16 dimensions at a time, two fragments: fragment 0 those with even numbers, fragment 1 the odd ones. So a lane's elements of both, in K as it lies
// in memory, are neighbours, and K need not be transposed. Steps and fragments are those of a part; what is beyond KEY_DIM and VALUE_DIM is zero.
#define KEY_STEPS (((KEY_DIM + 15) / 16 + DIM_PARTS - 1) / DIM_PARTS)
#define KEY_FRAGMENTS (TILE_KEYS / 8)
#define VALUE_FRAGMENTS ((VALUE_DIM / 8 + DIM_PARTS - 1) / DIM_PARTS)
#define STAGED_KEY_DIM (KEY_STEPS * DIM_PARTS * 16)
#define STAGED_VALUE_DIM (VALUE_FRAGMENTS * DIM_PARTS * 8)

// One chain of sums over more than 128 dimensions loses too much (512 dimensions: 1.0e-5 where 7.7e-6 are allowed).
#define STEPS_OF_A_SUM 8

// Loads are not moved ahead of products by more than this many steps or fragments: a compiler that is free to starts with all of them, and runs out of registers. Nothing waits at such a fence.
#define STEPS_AHEAD (2 / ROW_BLOCKS)
#define FENCE_LOADS(step) \
    if ((step) % STEPS_AHEAD == 0) simdgroup_barrier(mem_flags::mem_none)

// Rows in threadgroup memory have 16 bytes more than they need: in 16 bits, and with dimensions that are multiples of 16, the 32 lanes of a load of K (4 pairs of
// keys x 8 words) or V (8 keys x 4 words) then hit 32 different banks of 4 bytes.
#define ROW_PADDING int(16 / sizeof(KEY_VALUE_T))
#define KEY_STRIDE (STAGED_KEY_DIM + ROW_PADDING)
#define VALUE_STRIDE (STAGED_VALUE_DIM + ROW_PADDING)
#define TILE_STRIDE (KEY_STRIDE > VALUE_STRIDE ? KEY_STRIDE : VALUE_STRIDE)

// What an item's threads keep for its end, where a row's results are stored. It is in threadgroup memory, behind the tile, and so in no register. Nobody but a thread that stages an infinity or a NaN
// writes there between beginning and end.
struct ItemNotes {
    atomic_int first_row;
    atomic_int first_special;           // keys between which all special values are
    atomic_int end_special;
    int reserved;
};

// Behind that is what a lane of a part hands to the same lane of the other: scores or weights of its rows, and what their outputs are multiplied with.
#define EXCHANGE_FRAGMENTS (ROW_BLOCKS * (KEY_FRAGMENTS + 1))
#define EXCHANGE_BYTES (DIM_PARTS > 1 ? ROW_SIMDGROUPS * EXCHANGE_FRAGMENTS * 32 * int(sizeof(float2)) : 0)
#define STAGED_ELEMENTS (TILE_KEYS * TILE_STRIDE + (int(sizeof(ItemNotes)) + EXCHANGE_BYTES) / int(sizeof(KEY_VALUE_T)))

// A key is staged by neighbouring threads, four elements in turn each: a thread has one key, or one in each pass, so that an address and two comparisons serve all that it loads. Eight threads
// bring 64 bytes of a key in 16 bits, or all threads share the keys of a tile evenly.
#define STAGING_THREADS (THREADS > TILE_KEYS * 8 ? THREADS / TILE_KEYS : 8)
#define STAGING_KEYS (THREADS / STAGING_THREADS)

// Which key of a pass a thread has. The four of a simdgroup that stages 64 bytes of each are four apart: with dimensions that are multiples of 16 they then lie 16 banks from each other in threadgroup memory, and two by two fill
// all of them.
INLINE int staged_key(uint thread_index)
{
    int i = int(thread_index / STAGING_THREADS);
    return STAGING_THREADS == 8 ? i % 4 * 4 + i / 4 % 4 + i / 16 * 16 : i;
}

// Puts zeros in place of special values among what a thread has staged of a key. Seldom needed, so it is a loop and no part of the staging.
template <int PADDED_DIM>
INLINE void remove_specials(threadgroup KEY_VALUE_T *staged, thread KeySpan &specials, int key, int column)
{
    ROLLED
    for (int d = 0; d < PADDED_DIM; d += STAGING_THREADS * 4) {
        if (d + column >= PADDED_DIM) continue;
        threadgroup KEY_VALUE_T4 *chunk = (threadgroup KEY_VALUE_T4 *)(staged + d);
        *chunk = without_specials(*chunk, key, specials);
    }
}

// Brings the rows of a tile into threadgroup memory. Keys outside [start, end) are no row's to see: they are not read, and are zeros. Values are staged without special
// ones (specials.metal); keys as they are, because what they do to scores that no row may see is replaced with those scores.
template <bool IS_VALUE, int PADDED_DIM, int STRIDE>
INLINE void stage(threadgroup KEY_VALUE_T *staged, threadgroup ItemNotes *notes, thread const KeyRows &rows, int tile, int start, int end, uint thread_index)
{
    constexpr int TURNS = (PADDED_DIM / 4 + STAGING_THREADS - 1) / STAGING_THREADS;
    bool is_run = is_in_one_run(TILE_KEYS);
    device const KEY_VALUE_T *base = is_run ? key_row(rows, tile) : rows.first;
    int column = int(thread_index % STAGING_THREADS * 4);
    int key_of_thread = staged_key(thread_index);
    UNROLL
    for (int first = 0; first < TILE_KEYS; first += STAGING_KEYS) {
        int j = first + key_of_thread;
        if (j >= TILE_KEYS) continue;
        int key = tile + j;
        // All loads of a key are under way at once. Only the last turn may have threads without work.
        KEY_VALUE_T4 elements[TURNS];
        UNROLL
        for (int turn = 0; turn < TURNS; turn++) elements[turn] = KEY_VALUE_T4(0);
        if (key >= start && key < end) {
            device const KEY_VALUE_T *from = (is_run ? row_of_run(rows, base, j) : key_row(rows, key)) + column;
            UNROLL
            for (int turn = 0; turn < TURNS; turn++) elements[turn] = load4<KEY_VALUE_T4>(from, turn * STAGING_THREADS * 4, rows.columns - column);
        }
        threadgroup KEY_VALUE_T *to = staged + (j * STRIDE + column);
        uint carries = 0u;
        UNROLL
        for (int turn = 0; turn < TURNS; turn++) {
            if (IS_VALUE) carries |= carries_of(elements[turn]);
            if (turn * STAGING_THREADS * 4 + column < PADDED_DIM) *(threadgroup KEY_VALUE_T4 *)(to + turn * STAGING_THREADS * 4) = elements[turn];
        }
        if (IS_VALUE && has_special(carries)) {
            KeySpan specials = no_keys();
            remove_specials<PADDED_DIM>(to, specials, key, column);
            atomic_fetch_min_explicit(&notes->first_special, specials.first, memory_order_relaxed);
            atomic_fetch_max_explicit(&notes->end_special, specials.end, memory_order_relaxed);
        }
    }
}

// A lane's share of Q: of its row and each 16 dimensions the four that its two columns stand for, in both fragments.
INLINE void load_queries(thread QUERY_T4 *steps, device const QUERY_T *from, int columns, int part, int lane_column)
{
    UNROLL
    for (int step = 0; step < KEY_STEPS; step++) steps[step] = load4<QUERY_T4>(from, (part * KEY_STEPS + step) * 16 + lane_column * 2, columns);
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

// S = Q K^T for the tile in threadgroup memory, over the dimensions of a part.
INLINE void multiply_keys(thread Scores *scores, thread const Queries *queries, threadgroup const KEY_VALUE_T *staged, int part, int lane_row, int lane_column)
{
    UNROLL
    for (int b = 0; b < ROW_BLOCKS; b++) {
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) scores[b].fragments[f] = float2(0.0f);
    }
    threadgroup const KEY_VALUE_T *keys = staged + (lane_column * KEY_STRIDE + part * (KEY_STEPS * 16) + lane_row * 2);
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
            FENCE_LOADS(step);
            UNROLL
            for (int f = 0; f < KEY_FRAGMENTS; f++) {
                threadgroup const KEY_VALUE_T *key = keys + (f * 8 * KEY_STRIDE + step * 16);
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

// From part to part. `lane_of_exchange` is the lane's place in the first fragment.
INLINE void put_scores(threadgroup float2 *lane_of_exchange, thread const Scores *scores)
{
    UNROLL
    for (int b = 0; b < ROW_BLOCKS; b++) {
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) lane_of_exchange[(b * KEY_FRAGMENTS + f) * 32] = scores[b].fragments[f];
    }
}

INLINE void take_scores(thread Scores *scores, threadgroup const float2 *lane_of_exchange)
{
    UNROLL
    for (int b = 0; b < ROW_BLOCKS; b++) {
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) scores[b].fragments[f] = lane_of_exchange[(b * KEY_FRAGMENTS + f) * 32];
    }
}

// What a row's outputs are multiplied with: in a tile, and at the end, which has a place of its own because the other part may still be reading the last tile's.
INLINE threadgroup float2 &factors_of_exchange(threadgroup float2 *lane_of_exchange, int block)
{
    return lane_of_exchange[(ROW_BLOCKS * KEY_FRAGMENTS + block) * 32];
}

// Scale, soft cap, bias, ALiBi, masks and reach.
INLINE void modify_scores(thread float2 *scores, thread const Row &row, int tile, int lane_column, PARAMETERS parameters)
{
    UNROLL
    for (int f = 0; f < KEY_FRAGMENTS; f++) {
        scores[f].x = score_of(scores[f].x, row, tile + lane_column, f * 8, parameters);
        scores[f].y = score_of(scores[f].y, row, tile + lane_column, f * 8 + 1, parameters);
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
    thread Outputs *outputs, thread const Scores *weights, thread const float *rescale, threadgroup const KEY_VALUE_T *staged, int part, int lane_row, int lane_column)
{
    threadgroup const KEY_VALUE_T *values = staged + (lane_row * VALUE_STRIDE + part * (VALUE_FRAGMENTS * 8) + lane_column);
    UNROLL
    for (int d = 0; d < VALUE_FRAGMENTS; d++) {
        FENCE_LOADS(d);
        float2 sums[ROW_BLOCKS];
        UNROLL
        for (int b = 0; b < ROW_BLOCKS; b++) sums[b] = float2(0.0f);
        UNROLL
        for (int f = 0; f < KEY_FRAGMENTS; f++) {
            KEY_VALUE_T2 v = *(threadgroup const KEY_VALUE_T2 *)(values + (f * 8 * VALUE_STRIDE + d * 8));
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
    uint thread_index,
    uint simdgroup_index,
    uint lane)
{
    // What the block may see, and what every and any row of the simdgroup may see. Both ends of a reach grow with the query.
    int part = DIM_PARTS > 1 ? int(simdgroup_index) / ROW_SIMDGROUPS : 0;
    int row_simdgroup = int(simdgroup_index) - part * ROW_SIMDGROUPS;
    int first = item.first_row + row_simdgroup * (ROW_BLOCKS * 8);
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
        load_queries(queries[b].steps, from, keys.columns, part, lane_column);
        states[b].maximum = NEVER_SEEN;
        states[b].sum = 0.0f;
        UNROLL
        for (int d = 0; d < VALUE_FRAGMENTS; d++) outputs[b].fragments[d] = float2(0.0f);
    }

    // What the end of a row takes is found again there, from where the rows begin: a number that has been in threadgroup memory is one that a compiler does not know. Otherwise it keeps all that
    // follows from it in registers throughout, 5 of them or, with all features, 20.
    threadgroup ItemNotes *notes = (threadgroup ItemNotes *)(staged + TILE_KEYS * TILE_STRIDE);
    threadgroup float2 *exchange = (threadgroup float2 *)(notes + 1) + (row_simdgroup * (EXCHANGE_FRAGMENTS * 32) + int(lane));
    if (thread_index == 0) {
        atomic_store_explicit(&notes->first_row, item.first_row, memory_order_relaxed);
        atomic_store_explicit(&notes->first_special, no_keys().first, memory_order_relaxed);
        atomic_store_explicit(&notes->end_special, no_keys().end, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;
    for (int tile = start / TILE_KEYS * TILE_KEYS; tile < end; tile += TILE_KEYS) {
        bool sees_tile = has_rows && tile < end_of_any && tile + TILE_KEYS > start_of_any;
        bool sees_whole_tile = tile >= start_of_all && tile + TILE_KEYS <= end_of_all;
        Scores scores[ROW_BLOCKS];
        float rescale[ROW_BLOCKS];

        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<false, STAGED_KEY_DIM, KEY_STRIDE>(staged, notes, keys, tile, start, end, thread_index);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sees_tile) {
            multiply_keys(scores, queries, staged, part, lane_row, lane_column);
            if (part > 0) put_scores(exchange, scores);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<true, STAGED_VALUE_DIM, VALUE_STRIDE>(staged, notes, values, tile, start, end, thread_index);
        if (sees_tile && part == 0) {
            Scores others[ROW_BLOCKS];
            if (DIM_PARTS > 1) take_scores(others, exchange);
            UNROLL
            for (int b = 0; b < ROW_BLOCKS; b++) {
                if (DIM_PARTS > 1) {
                    UNROLL
                    for (int f = 0; f < KEY_FRAGMENTS; f++) scores[b].fragments[f] += others[b].fragments[f];
                }
                if (modifies_scores() || !sees_whole_tile) modify_scores(scores[b].fragments, rows[b], tile, lane_column, parameters);
                rescale[b] = weigh(states[b], scores[b].fragments, factor);
                if (DIM_PARTS > 1) factors_of_exchange(exchange, b).x = rescale[b];
            }
            if (DIM_PARTS > 1) put_scores(exchange, scores);
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (sees_tile) {
            if (part > 0) {
                take_scores(scores, exchange);
                UNROLL
                for (int b = 0; b < ROW_BLOCKS; b++) rescale[b] = factors_of_exchange(exchange, b).x;
            }
            multiply_values(outputs, scores, rescale, staged, part, lane_row, lane_column);
        }
    }

    KeySpan specials;
    specials.first = atomic_load_explicit(&notes->first_special, memory_order_relaxed);
    specials.end = atomic_load_explicit(&notes->end_special, memory_order_relaxed);
    first = atomic_load_explicit(&notes->first_row, memory_order_relaxed) + row_simdgroup * (ROW_BLOCKS * 8);
    int first_column = part * (VALUE_FRAGMENTS * 8);
    UNROLL
    for (int b = 0; b < ROW_BLOCKS; b++) {
        int index = first + b * 8 + lane_row;
        Row row = row_at(min(index, item.end_row - 1), head, sequence, operands, parameters);
        float end_factor = 0.0f;
        if (part == 0) {
            RowEnd row_end = end_of_row(states[b].maximum, sum_of_row(states[b].sum), unit, row, operands);
            end_factor = row_end.factor;
            if (has_log_sum_exp && lane_column == 0 && index < item.end_row) store_log_sum_exp(row_end.log_sum_exp, row, operands, sequence, parameters);
        }
        if (DIM_PARTS > 1) {
            if (part == 0) factors_of_exchange(exchange, b).y = end_factor;
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (part > 0) end_factor = factors_of_exchange(exchange, b).y;
        }
        if (index >= item.end_row) continue;
        device QUERY_T *to = output_row(output, row, sequence, parameters);
        UNROLL
        for (int d = 0; d < VALUE_FRAGMENTS; d++) {
            int column = first_column + d * 8 + lane_column;
            if (column < values.columns) to[column] = narrow<QUERY_T>(outputs[b].fragments[d].x * end_factor);
            if (column + 1 < values.columns) to[column + 1] = narrow<QUERY_T>(outputs[b].fragments[d].y * end_factor);
        }
        add_specials<2, 8>(to, row, values, specials, first_column + lane_column, min(first_column + VALUE_FRAGMENTS * 8, values.columns), parameters);
    }
}
