// Attention of a few rows against many keys, straight from device memory: bound by reading K and V, so a key that has been loaded serves ROWS query heads of its
// group, and the keys of a sequence are split among threadgroups (splits.metal).
//
// LANES lanes share a key, four dimensions in turn each, the last lanes without any in the last turn where that is not even, and 32 / LANES keys are read side by side. A tile is STEPS such reads: 32 / ROWS keys, 32 scores, one a
// lane. For that the products of all rows and steps are summed over the lanes at once: LANES - 1 shuffles for LANES sums, where one after the other would take
// LANES * log2(LANES); each lane ends up with a sum of its own, and no exponential is computed twice.
//
// Registers of a lane, in floats: Q and O (KEY_DIM + VALUE_DIM) * ROWS / LANES, at most 64 by the host's table as far as ROWS = 1 allows it, the sums LANES.
//
// A threadgroup has SIMDGROUPS simdgroups: sets of ROWS rows times slices of the split's keys, tile by tile in turn. Slices are combined through threadgroup
// memory, half of them at a time, so half of their outputs fit into it.
//
// QUERY_T, KEY_VALUE_T, KEY_DIM, VALUE_DIM, LANES, ROWS and SIMDGROUPS come from the host.

#define QUERY_T4 VECTOR_OF(QUERY_T, 4)
#define KEY_VALUE_T4 VECTOR_OF(KEY_VALUE_T, 4)
#define SIDE_BY_SIDE (32 / LANES)
#define STEPS (LANES / ROWS)
#define TILE_KEYS (32 / ROWS)
#define CHUNKS_OF(dim) (((dim) + 4 * LANES - 1) / (4 * LANES))
#define KEY_CHUNKS CHUNKS_OF(KEY_DIM)
#define VALUE_CHUNKS CHUNKS_OF(VALUE_DIM)

// Loads are not moved ahead of the steps in front of them by more than fill 8 registers: a compiler that is free to starts with all of them, and runs out of registers. Nothing waits at such a fence.
#define STEP_REGISTERS(chunks) ((chunks) * int(sizeof(KEY_VALUE_T)))
#define STEPS_AHEAD(chunks) (STEP_REGISTERS(chunks) < 8 ? 8 / STEP_REGISTERS(chunks) : 1)
#define FENCE_LOADS(step, chunks) \
    if ((step) > 0 && (step) % STEPS_AHEAD(chunks) == 0) simdgroup_barrier(mem_flags::mem_none)

// Whether all lanes have dimensions in all turns: the last turn may be for some lanes alone, and rows of the drop-in file may have fewer columns than its kernels have dimensions.
INLINE bool has_dims_everywhere(int dim, int columns) { return columns == dim && dim % (4 * LANES) == 0; }
INLINE bool has_dims(int chunk, int lane_of_key, int dim, int columns) { return has_dims_everywhere(dim, columns) || (chunk * LANES + lane_of_key) * 4 < columns; }

// A lane's four elements of a row in a turn. Loads have no condition, which would end the compiler's blocks: it spilled 54 times a tile at D = 88 in floats. A lane without dimensions loads the last four and makes nothing of them; of
// elements that are loaded one by one those beyond the row are zeros.
template <typename T4, typename T> INLINE T4 load_chunk(device const T *row, int chunk, int lane_of_key, int dim, int columns)
{
    int d = (chunk * LANES + lane_of_key) * 4;
    if (is_aligned) return *(device const T4 *)(row + (has_dims_everywhere(dim, columns) ? d : min(d, columns - 4)));
    int last = columns - 1;
    T4 elements;
    elements.x = row[min(d, last)];
    elements.y = row[min(d + 1, last)];
    elements.z = row[min(d + 2, last)];
    elements.w = row[min(d + 3, last)];
    elements.x = d <= last ? elements.x : T(0);
    elements.y = d + 1 <= last ? elements.y : T(0);
    elements.z = d + 2 <= last ? elements.z : T(0);
    elements.w = d + 3 <= last ? elements.w : T(0);
    return elements;
}

INLINE float product_of(float4 a, float4 b, float sum)
{
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}

// Sums LANES values over LANES lanes: lane l of them returns the sum of value l. The order of additions is the same for every value.
INLINE float sum_each(thread float *values, int lane)
{
    UNROLL
    for (int half_way = LANES / 2; half_way > 0; half_way /= 2) {
        bool upper = (lane & half_way) != 0;
        UNROLL
        for (int i = 0; i < half_way; i++) {
            // Loaded before the choice: a choice between two elements is a choice of address, and would take the array out of the registers.
            float low = values[i];
            float high = values[i + half_way];
            values[i] = (upper ? high : low) + simd_shuffle_xor(upper ? low : high, ushort(half_way));
        }
    }
    return values[0];
}

// Over the lanes that hold scores of the same row: those of its steps and of the keys side by side.
INLINE float max_of_scores(float x)
{
    UNROLL
    for (int i = 1; i < STEPS; i *= 2) x = max(x, simd_shuffle_xor(x, ushort(i)));
    UNROLL
    for (int i = LANES; i < 32; i *= 2) x = max(x, simd_shuffle_xor(x, ushort(i)));
    return x;
}

INLINE float sum_of_scores(float x)
{
    UNROLL
    for (int i = 1; i < STEPS; i *= 2) x += simd_shuffle_xor(x, ushort(i));
    UNROLL
    for (int i = LANES; i < 32; i *= 2) x += simd_shuffle_xor(x, ushort(i));
    return x;
}

// What a simdgroup carries from tile to tile. Maximum and sum belong to the row of the lane's score; the sum is of the lane's own weights until the end.
struct DecodeState {
    float maximum;
    float sum;
    float4 queries[ROWS][KEY_CHUNKS];
    float4 outputs[ROWS][VALUE_CHUNKS];
};

// Brings outputs to a new maximum: each row's factor is in the lanes of its scores.
INLINE void rescale_outputs(thread DecodeState &state, float rescale)
{
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        float4 by = float4(simd_shuffle(rescale, ushort(r * STEPS)));
        UNROLL
        for (int c = 0; c < VALUE_CHUNKS; c++) state.outputs[r][c] *= by;
    }
}

// Of a tile that reaches beyond the item's keys, the nearest of them: loads have no condition, and what is loaded twice gets the weight 0 the second time.
INLINE int nearest_key(int key, int first_key, int end_key) { return min(max(key, first_key), end_key - 1); }

// Where a tile's keys, or values, are.
struct TileRows {
    device const KEY_VALUE_T *first;    // the tile's first key, if its keys lie one stride apart; else the first of all
    uint2 distance;                     // in the second case, from there to one key of the tile for each lane: 64 bits in two words, which is what can be shuffled
};

INLINE TileRows rows_of_tile(thread const KeyRows &rows, int tile, int first_key, int end_key, int lane)
{
    TileRows of_tile;
    of_tile.first = is_in_one_run(TILE_KEYS) ? key_row(rows, tile) : rows.first;
    of_tile.distance = uint2(0u);
    if (!is_in_one_run(TILE_KEYS)) of_tile.distance = as_type<uint2>(long(key_row(rows, nearest_key(tile + lane % TILE_KEYS, first_key, end_key)) - rows.first));
    return of_tile;
}

// The key, or value, that a lane has in a step. Where a tile's keys lie one stride apart, that is a pointer that is the same for all lanes, and a 32-bit distance: the lane's own, or that of the nearest of the item's keys. The bounds of
// distances are the same for all lanes too, so a tile at the edge of the keys is no case of its own: two arms of a choice keep outputs twice, and take twice the code. In other blocks each lane has looked up one key of the tile, and has
// a step's from whoever has it: a division, an entry of the table and two 64-bit products a tile, and not a step.
INLINE device const KEY_VALUE_T *row_of_step(
    thread const KeyRows &rows, thread const TileRows &of_tile, int tile, int step, int side, int first_key, int end_key)
{
    int step_key = step * SIDE_BY_SIDE;
    if (!is_in_one_run(TILE_KEYS)) return of_tile.first + as_type<long>(simd_shuffle(of_tile.distance, ushort(step_key + side)));
    int stride = int(rows.token_stride);
    int least = (nearest_key(tile, first_key, end_key) - tile - step_key) * stride;
    int most = (nearest_key(tile + TILE_KEYS - 1, first_key, end_key) - tile - step_key) * stride;
    return row_of_run(rows, of_tile.first, step_key) + min(max(side * stride, least), most);
}

// Takes one tile of keys through products, softmax and weighted sums.
INLINE void add_tile(
    thread DecodeState &state,
    thread KeySpan &specials,
    thread const KeyRows &keys,
    thread const KeyRows &values,
    thread const Row &row,
    int tile,
    int first_key,
    int end_key,
    int lane,
    float factor,
    PARAMETERS parameters)
{
    int side = lane / LANES;
    int lane_of_key = lane % LANES;
    TileRows keys_of_tile = rows_of_tile(keys, tile, first_key, end_key, lane);
    TileRows values_of_tile = rows_of_tile(values, tile, first_key, end_key, lane);
    float products[LANES];
    UNROLL
    for (int step = 0; step < STEPS; step++) {
        FENCE_LOADS(step, KEY_CHUNKS);
        device const KEY_VALUE_T *from = row_of_step(keys, keys_of_tile, tile, step, side, first_key, end_key);
        float4 elements[KEY_CHUNKS];
        UNROLL
        for (int c = 0; c < KEY_CHUNKS; c++) elements[c] = widen(load_chunk<KEY_VALUE_T4>(from, c, lane_of_key, KEY_DIM, keys.columns));
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            float product = 0.0f;
            UNROLL
            for (int c = 0; c < KEY_CHUNKS; c++) {
                float next = product_of(state.queries[r][c], elements[c], product);
                product = has_dims(c, lane_of_key, KEY_DIM, keys.columns) ? next : product;
            }
            products[r * STEPS + step] = product;
        }
    }

    // From here on the lane's score is that of row lane_of_key / STEPS and of one key of step lane_of_key % STEPS.
    float score = sum_each(products, lane);
    score = score_of(score, row, tile, lane_of_key % STEPS * SIDE_BY_SIDE + side, parameters);
    float new_maximum = max(state.maximum, max_of_scores(score));
    float base = base_of(new_maximum);
    float rescale = weight_of(state.maximum, base, factor);
    float weight = weight_of(score, base, factor);
    state.maximum = new_maximum;
    state.sum = fma(state.sum, rescale, weight);
    if (simd_any(rescale != 1.0f)) rescale_outputs(state, rescale);

    UNROLL
    for (int step = 0; step < STEPS; step++) {
        FENCE_LOADS(step, VALUE_CHUNKS);
        device const KEY_VALUE_T *from = row_of_step(values, values_of_tile, tile, step, side, first_key, end_key);
        int key = nearest_key(tile + step * SIDE_BY_SIDE + side, first_key, end_key);
        KEY_VALUE_T4 elements[VALUE_CHUNKS];
        UNROLL
        for (int c = 0; c < VALUE_CHUNKS; c++) elements[c] = without_specials(load_chunk<KEY_VALUE_T4>(from, c, lane_of_key, VALUE_DIM, values.columns), key, specials);
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            float4 w = float4(simd_shuffle(weight, ushort(side * LANES + r * STEPS + step)));
            UNROLL
            for (int c = 0; c < VALUE_CHUNKS; c++) state.outputs[r][c] = fma(w, widen(elements[c]), state.outputs[r][c]);
        }
    }
}

// One item: the rows of one sequence and one key/value head, against the item's keys. All threads of the threadgroup come here together.
INLINE void attend_item(
    device const QUERY_T *query,
    thread const KeyRows &keys,
    thread const KeyRows &values,
    device QUERY_T *output,
    device float *partial_outputs,
    device float *partial_statistics,
    int head,
    thread const WorkItem &item,
    thread const SequenceEntry &sequence,
    thread const Operands &operands,
    PARAMETERS parameters,
    threadgroup float4 *shared_outputs,
    threadgroup float2 *shared_statistics,
    threadgroup int2 *special_keys,
    uint simdgroup_index,
    uint lane_index)
{
    int lane = int(lane_index);
    int side = lane / LANES;
    int lane_of_key = lane % LANES;

    // Sets of rows, a power of two, and slices of keys.
    int sets = 1;
    while (sets * ROWS < item.end_row - item.first_row) sets *= 2;
    int slices = SIMDGROUPS / sets;
    int set = int(simdgroup_index) % sets;
    int slice = int(simdgroup_index) / sets;
    int first_row = item.first_row + set * ROWS;

    // Rows beyond the item's repeat its last one, and store nothing.
    DecodeState state;
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        int index = min(first_row + r, item.end_row - 1);
        int i = index / parameters.group;
        int h = head * parameters.group + (index - i * parameters.group);
        device const QUERY_T *from = query + (sequence.query_start + i * parameters.query_token_stride + h * parameters.query_head_stride);
        UNROLL
        for (int c = 0; c < KEY_CHUNKS; c++) state.queries[r][c] = widen(load_chunk<QUERY_T4>(from, c, lane_of_key, KEY_DIM, keys.columns));
    }
    int row_of_score = lane_of_key / STEPS;
    Row row = row_at(min(first_row + row_of_score, item.end_row - 1), head, sequence, operands, parameters);
    row.start = max(row.start, item.first_key);
    row.end = min(row.end, item.end_key);

    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;
    state.maximum = NEVER_SEEN;
    state.sum = 0.0f;
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int c = 0; c < VALUE_CHUNKS; c++) state.outputs[r][c] = float4(0.0f);
    }

    KeySpan specials = no_keys();
    for (int tile = (item.first_key / TILE_KEYS + slice) * TILE_KEYS; tile < item.end_key; tile += slices * TILE_KEYS) {
        add_tile(state, specials, keys, values, row, tile, item.first_key, item.end_key, lane, factor, parameters);
    }

    share_span(special_keys, specials, simdgroup_index, lane_index);
    threadgroup_barrier(mem_flags::mem_threadgroup);
    specials = span_of_all(special_keys);

    // Over the keys side by side.
    state.sum = sum_of_scores(state.sum);
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int c = 0; c < VALUE_CHUNKS; c++) {
            UNROLL
            for (int i = LANES; i < 32; i *= 2) state.outputs[r][c] += simd_shuffle_xor(state.outputs[r][c], ushort(i));
        }
    }

    // Over the slices: the upper half hands its results to the lower half, until one is left.
    for (int half_way = slices / 2; half_way > 0; half_way /= 2) {
        int slot = (slice % half_way * sets + set) * ROWS;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (slice >= half_way && slice < 2 * half_way && side == 0) {
            if (lane_of_key % STEPS == 0) shared_statistics[slot + row_of_score] = float2(state.maximum, state.sum);
            UNROLL
            for (int r = 0; r < ROWS; r++) {
                UNROLL
                for (int c = 0; c < VALUE_CHUNKS; c++) {
                    if (has_dims(c, lane_of_key, VALUE_DIM, VALUE_DIM)) shared_outputs[(slot + r) * (VALUE_DIM / 4) + c * LANES + lane_of_key] = state.outputs[r][c];
                }
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (slice < half_way) {
            float2 other = shared_statistics[slot + row_of_score];
            float new_maximum = max(state.maximum, other.x);
            float base = base_of(new_maximum);
            float rescale = weight_of(state.maximum, base, factor);
            float other_rescale = weight_of(other.x, base, factor);
            state.maximum = new_maximum;
            state.sum = state.sum * rescale + other.y * other_rescale;
            rescale_outputs(state, rescale);
            UNROLL
            for (int r = 0; r < ROWS; r++) {
                float4 by = float4(simd_shuffle(other_rescale, ushort(r * STEPS)));
                UNROLL
                for (int c = 0; c < VALUE_CHUNKS; c++) {
                    if (!has_dims(c, lane_of_key, VALUE_DIM, VALUE_DIM)) continue;
                    state.outputs[r][c] = fma(by, shared_outputs[(slot + r) * (VALUE_DIM / 4) + c * LANES + lane_of_key], state.outputs[r][c]);
                }
            }
        }
    }
    if (slice > 0) return;

    // Every lane has the end of its score's row; the factor goes to the lanes of the outputs.
    bool is_row = first_row + row_of_score < item.end_row;
    bool is_first_of_row = side == 0 && lane_of_key % STEPS == 0;
    if (item.partial < 0) {
        RowEnd row_end = end_of_row(state.maximum, state.sum, unit, row, operands);
        if (has_log_sum_exp && is_row && is_first_of_row) store_log_sum_exp(row_end.log_sum_exp, row, operands, sequence, parameters);
        rescale_outputs(state, row_end.factor);
    } else if (is_row && is_first_of_row) {
        long partial = partial_row(item.partial, head, first_row + row_of_score, sequence, parameters);
        partial_statistics[partial * 2] = state.maximum;
        partial_statistics[partial * 2 + 1] = state.sum;
    }
    if (side > 0) return;
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        int index = first_row + r;
        if (index >= item.end_row) continue;
        if (item.partial >= 0) {
            device float *to = partial_outputs + (partial_row(item.partial, head, index, sequence, parameters) * VALUE_DIM + lane_of_key * 4);
            UNROLL
            for (int c = 0; c < VALUE_CHUNKS; c++) {
                if (has_dims(c, lane_of_key, VALUE_DIM, VALUE_DIM)) *(device float4 *)(to + c * (4 * LANES)) = state.outputs[r][c];
            }
            continue;
        }
        Row of_output = row_at(index, head, sequence, operands, parameters);
        device QUERY_T *to = output_row(output, of_output, sequence, parameters);
        UNROLL
        for (int c = 0; c < VALUE_CHUNKS; c++) store4(to, state.outputs[r][c], (c * LANES + lane_of_key) * 4, values.columns);
    }
    if (specials.first >= specials.end) return;
    ROLLED
    for (int index = first_row; index < min(first_row + ROWS, item.end_row); index++) {
        Row of_output = row_at(index, head, sequence, operands, parameters);
        if (item.partial >= 0) {
            device float *to = partial_outputs + partial_row(item.partial, head, index, sequence, parameters) * VALUE_DIM;
            add_specials<4, 4 * LANES>(to, of_output, values, specials, lane_of_key * 4, values.columns, parameters);
        } else {
            add_specials<4, 4 * LANES>(output_row(output, of_output, sequence, parameters), of_output, values, specials, lane_of_key * 4, values.columns, parameters);
        }
    }
}
