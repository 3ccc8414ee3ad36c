// What the attention kernels share: which keys a row may see, where a key lies in memory, and what happens to a score between the product of query and key
// and its weight. Positions, masks and sinks mean what AttentionProblem says they mean, and the steps from product to score have the order of ScoreLaw; here are only numbers.

FUNCTION_CONSTANT(bool, has_mask, 0);
FUNCTION_CONSTANT(bool, has_bias, 1);
FUNCTION_CONSTANT(bool, has_alibi, 2);
FUNCTION_CONSTANT(bool, has_soft_cap, 3);
FUNCTION_CONSTANT(bool, has_sinks, 4);
FUNCTION_CONSTANT(bool, has_log_sum_exp, 5);
FUNCTION_CONSTANT(bool, is_aligned, 6);     // queries, keys and values may be loaded four at a time
FUNCTION_CONSTANT(int, block_size, 7);      // tokens of a cache's block; 0 when keys lie one stride apart; -1 when the call alone knows (the drop-in file)
FUNCTION_CONSTANT(int, bias_type, 8);       // 0 float, 1 half, 2 bfloat16

// The score of a key that a row may not see, and the running maximum of a row that has seen none. The most negative number, so that every score of a key that
// is seen lies above it: one that a bias brings down here is set to the next number.
constant float NEVER_SEEN = -3.40282347e38f;
constant float LOWEST_SCORE = -3.40282326e38f;

// What a call has beside queries, keys, values and outputs. Only what it has is looked at.
struct Operands {
    device const uchar *mask;
    device const uchar *bias;
    device float *log_sum_exp;
    device const float *sink_logits;
    AlibiSlopes alibi_slopes;
};

// A row of the call: one query of one query head.
struct Row {
    int query;
    int head;
    int start;                          // keys [start, end) by position
    int end;
    long position;                      // of the query on the key axis
    float slope;
    device const uchar *mask;           // of key 0
    device const uchar *bias;           // of key 0, by its type
};

// A position moved by a reach, as a number of keys.
INLINE int key_bound(long position, int keys) { return position < 0 ? 0 : position > keys ? keys : int(position); }

INLINE int first_key_of(long position, int keys, PARAMETERS parameters)
{
    return key_bound(position - parameters.left_reach, keys);
}

INLINE int end_key_of(long position, int keys, PARAMETERS parameters)
{
    return key_bound(position + parameters.right_reach + 1, keys);
}

// Rows of a key/value head are queries times the heads of its group, query by query.
INLINE Row row_at(
    int index,
    int key_value_head,
    thread const SequenceEntry &sequence,
    thread const Operands &operands,
    PARAMETERS parameters)
{
    Row row;
    row.query = index / parameters.group;
    row.head = key_value_head * parameters.group + (index - row.query * parameters.group);
    row.position = sequence.query_offset + row.query;
    row.start = first_key_of(row.position, sequence.key_length, parameters);
    row.end = end_key_of(row.position, sequence.key_length, parameters);
    row.slope = 0;
    row.mask = operands.mask;
    row.bias = operands.bias;
    if (has_alibi) row.slope = slope_of(operands.alibi_slopes, row.head);
    if (has_mask) row.mask = operands.mask + (sequence.mask_start + row.head * parameters.mask_head_stride + row.query * parameters.mask_query_stride);
    if (has_bias) {
        long first = sequence.bias_start + row.head * parameters.bias_head_stride + row.query * parameters.bias_query_stride;
        row.bias = operands.bias + first * (bias_type == 0 ? 4 : 2);
    }
    return row;
}

// Keys, or values, of one head of one sequence.
struct KeyRows {
    device const KEY_VALUE_T *first;
    long token_stride;
    long block_stride;
    device const int *blocks;
    int block_size;                     // 0 when keys lie one stride apart
    int columns;                        // dimensions of a row
};

INLINE device const KEY_VALUE_T *key_row(thread const KeyRows &rows, int key)
{
    if (rows.block_size == 0) return rows.first + key * rows.token_stride;
    int block = key / rows.block_size;
    return rows.first + (rows.blocks[block] * rows.block_stride + (key - block * rows.block_size) * rows.token_stride);
}

// Whether tiles of so many keys, which begin at multiples of it, lie in one block each. Then the address of a tile's first key is enough, with 32-bit distances from there: keys that lie too
// far apart for that are the plain kernel's (KernelTiles).
INLINE bool is_in_one_run(int tile_keys) { return block_size >= 0 && block_size % tile_keys == 0; }

INLINE device const KEY_VALUE_T *row_of_run(thread const KeyRows &rows, device const KEY_VALUE_T *base, int j) { return base + j * int(rows.token_stride); }

INLINE KeyRows keys_of(
    int head, device const KEY_VALUE_T *key, device const int *block_tables, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    KeyRows rows;
    rows.first = key + (sequence.key_start + head * parameters.key_head_stride);
    rows.token_stride = parameters.key_token_stride;
    rows.block_stride = parameters.key_block_stride;
    rows.blocks = block_tables + sequence.block_table_start;
    rows.block_size = block_size;
    rows.columns = KEY_DIM;
    return rows;
}

INLINE KeyRows values_of(
    int head, device const KEY_VALUE_T *value, device const int *block_tables, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    KeyRows rows;
    rows.first = value + (sequence.value_start + head * parameters.value_head_stride);
    rows.token_stride = parameters.value_token_stride;
    rows.block_stride = parameters.value_block_stride;
    rows.blocks = block_tables + sequence.block_table_start;
    rows.block_size = block_size;
    rows.columns = VALUE_DIM;
    return rows;
}

// Four elements of a row from column d on, which is a multiple of four; zeros beyond its end. One by one where a stride, or the number of columns, is no multiple of four.
template <typename T4, typename T> INLINE T4 load4(device const T *row, int d, int columns)
{
    T4 elements = T4(0);
    if (d >= columns) return elements;
    if (is_aligned) return *(device const T4 *)(row + d);
    elements.x = row[d];
    if (columns % 4 == 0 || d + 1 < columns) elements.y = row[d + 1];
    if (columns % 4 == 0 || d + 2 < columns) elements.z = row[d + 2];
    if (columns % 4 == 0 || d + 3 < columns) elements.w = row[d + 3];
    return elements;
}

// Scores are kept in units of the natural logarithm if something is added to them, else as the bare products, which saves a multiplication a score.
INLINE bool has_natural_scores() { return has_soft_cap || has_bias || has_alibi; }

// Whether scores change between product and exponential even where every key is in reach.
INLINE bool modifies_scores() { return has_natural_scores() || has_mask; }

INLINE float unit_of_scores(PARAMETERS parameters) { return has_natural_scores() ? 1.0f : parameters.scale; }

INLINE float bias_of(thread const Row &row, int key)
{
    if (bias_type == 1) return widen(((device const half *)row.bias)[key]);
    if (bias_type == 2) return widen(((device const bfloat_bits *)row.bias)[key]);
    return ((device const float *)row.bias)[key];
}

// A score on its way, and whether the row may see the key at all. What hides a key leaves the number alone: it is replaced at the end, whatever it has become.
struct Score {
    float value;
    bool is_seen;
};

// The steps, a function each: weight = exp2((s - m) * log2(e)) comes after them.

// s = scale * q.k
INLINE void scale(thread Score &score, PARAMETERS parameters)
{
    if (has_natural_scores()) score.value *= parameters.scale;
}

// s = cap * tanh(s / cap)
INLINE void cap_softly(thread Score &score, PARAMETERS parameters)
{
    score.value = parameters.soft_cap * precise::tanh(score.value / parameters.soft_cap);
}

// s = s + bias
INLINE void add_bias(thread Score &score, thread const Row &row, int key)
{
    float bias = bias_of(row, key);
    if (is_negative_infinity(bias)) score.is_seen = false;
    score.value += bias;
}

// s = s - slope * |position - key|. Distances are taken from the tile's start, or a key near it: exact below 2^24, wherever the context begins.
INLINE void subtract_distance(thread Score &score, thread const Row &row, int tile, int j)
{
    score.value -= row.slope * fabs(float(row.position - tile) - float(j));
}

INLINE void apply_mask(thread Score &score, thread const Row &row, int key)
{
    if (row.mask[key] == 0) score.is_seen = false;
}

// The score of key tile + j. The host puts the steps, in the order of ScoreLaw, in place of the line that says so.
INLINE float score_of(float product, thread const Row &row, int tile, int j, PARAMETERS parameters)
{
    int key = tile + j;
    if (key < row.start || key >= row.end) return NEVER_SEEN;
    Score score;
    score.value = product;
    score.is_seen = true;
    // SCORE_STEPS
    if (!score.is_seen) return NEVER_SEEN;
    if (has_bias && score.value < LOWEST_SCORE) return LOWEST_SCORE;
    return score.value;
}

// Whether a row sees a key: by the score's own tests, so that there are no others. A finite product cannot make a score that only hidden keys have.
INLINE bool sees_key(thread const Row &row, int key, PARAMETERS parameters)
{
    return as_type<uint>(score_of(0.0f, row, key, 0, parameters)) != as_type<uint>(NEVER_SEEN);
}

// What is subtracted from scores. A row that has seen nothing subtracts zero, so that its scores, all NEVER_SEEN, get the weight 0 and not exp2(0).
INLINE float base_of(float maximum) { return maximum == NEVER_SEEN ? 0.0f : maximum; }

// Subtracts before scaling: the largest weight is exactly 1, and logits of 4e4 keep their accuracy. The bound keeps the product finite; NaN passes.
INLINE float weight_of(float score, float base, float factor)
{
    float difference = score - base;
    difference = difference < -1e30f ? -1e30f : difference;
    return fast::exp2(difference * factor);
}
