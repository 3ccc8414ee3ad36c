#line 1 "includes.metal"
// Before everything else, the host's definitions included: their names are ours, and Metal's headers are not to see them.

#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
#define QUERY_T float
#define KEY_VALUE_T float
#define KEY_DIM 64
#define VALUE_DIM 64
#define SIMDGROUPS 4
#line 1 "common.metal"
// What every kernel family begins with. The text is compiled by Metal on the user's machine, and by clang for the emulator of the tests, so it keeps to the
// rules of docs/metal.md: kernels are plain functions, dimensions and types are macros that the host defines, features are function constants.

// A function constant is a constant of the pipeline: branches on it cost nothing. In a file that has to stand alone its value is in the text, as FIXED_name; the emulator sets the same
// names from outside.
#ifdef FUSED_ATTENTION_STANDS_ALONE
#define FUNCTION_CONSTANT(type, name, index) constexpr constant type name = FIXED_##name
#elif defined(FUSED_ATTENTION_EMULATOR)
#define FUNCTION_CONSTANT(type, name, index) extern constant type name
#else
#define FUNCTION_CONSTANT(type, name, index) constant type name [[function_constant(index)]]
#endif

// Loops over private arrays: an array that is not indexed by constants after unrolling leaves the registers for device memory.
#define UNROLL _Pragma("clang loop unroll(full)")

// Loops that are hardly ever entered.
#define ROLLED _Pragma("clang loop unroll(disable)")

// How many threads a threadgroup of a kernel has: without it a compiler must leave room in the registers for as many as a device runs (1,024).
#define THREADGROUP_OF(threads) [[max_total_threads_per_threadgroup(threads)]]

// Arrays handed to a function stay in registers only if it becomes part of its caller.
#define INLINE inline __attribute__((always_inline))

// float -> float4: the host names scalar types only.
#define VECTOR_OF_(T, n) T##n
#define VECTOR_OF(T, n) VECTOR_OF_(T, n)

constant float LOG2_E = 1.44269504088896340736f;

// Written by bits: fast math gives no meaning to an expression that makes an infinity, nor to a comparison with one.
INLINE float negative_infinity() { return as_type<float>(0xFF800000u); }
INLINE bool is_negative_infinity(float x) { return as_type<uint>(x) == 0xFF800000u; }

// bfloat16 is storage only: its bits are the upper half of a float. Putting them there is a move of 16 bits, as halves of a register are registers on every Apple GPU; a shift takes four cycles on the M1 and M2, where a move takes one.
// The language's own type needs Metal 3.1 and is emulated before M3.
typedef ushort bfloat_bits;
typedef ushort2 bfloat_bits2;
typedef ushort4 bfloat_bits4;

INLINE float widen(float x) { return x; }
INLINE float widen(half x) { return float(x); }
INLINE float widen(bfloat_bits x) { return as_type<float>(ushort2(ushort(0), x)); }
INLINE float4 widen(float4 x) { return x; }
INLINE float4 widen(half4 x) { return float4(x); }
INLINE float4 widen(bfloat_bits4 x) { return float4(widen(x.x), widen(x.y), widen(x.z), widen(x.w)); }

// To the nearest value of the type, ties to even.
template <typename T> INLINE T narrow(float x);
template <> INLINE float narrow<float>(float x) { return x; }
template <> INLINE half narrow<half>(float x) { return half(x); }
template <> INLINE bfloat_bits narrow<bfloat_bits>(float x)
{
    uint bits = as_type<uint>(x);
    bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    uint rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
    return ushort((is_nan ? bits | 0x400000u : rounded) >> 16);
}
#line 1 "parameters.metal"
// The contract with the host: these structures have the same fields at the same offsets as those of the same names in C#, and a test compares the two texts. 8-byte
// fields come first, then 4-byte ones: no padding to get wrong. Strides and starts count elements.

struct AttentionParameters {
    long query_token_stride;
    long query_head_stride;
    long output_token_stride;
    long output_head_stride;
    long key_token_stride;
    long key_head_stride;
    long value_token_stride;
    long value_head_stride;
    long key_block_stride;
    long value_block_stride;
    long mask_head_stride;
    long mask_query_stride;
    long bias_head_stride;
    long bias_query_stride;
    long log_sum_exp_head_stride;
    long log_sum_exp_query_stride;
    long left_reach;
    long right_reach;
    int query_heads;
    int key_value_heads;
    int group;
    int block_size;
    float scale;
    float soft_cap;
};

// How functions take them: set by the host, or made by the kernel where a file has to stand alone.
#ifdef FUSED_ATTENTION_STANDS_ALONE
#define PARAMETERS thread const AttentionParameters &
#else
#define PARAMETERS constant AttentionParameters &
#endif

// One sequence of a call. A query i stands at position query_offset + i and sees keys [position - left_reach, position + right_reach] of key_length.
struct SequenceEntry {
    long query_start;
    long output_start;
    long key_start;
    long value_start;
    long mask_start;
    long bias_start;
    long log_sum_exp_start;
    long block_table_start;
    long query_offset;
    int query_length;
    int key_length;
};

// What one threadgroup does (its grid position y is the key/value head): rows [first_row, end_row) of a sequence, rows being queries times the heads of the
// group, query-major, and their keys [first_key, end_key). An item whose keys are only a split of what its rows see leaves partial results, from row `partial` of
// them on; for all others `partial` is -1. A launch of its own merges splits, so the last two fields are not read here.
struct WorkItem {
    int sequence;
    int first_row;
    int end_row;
    int first_key;
    int end_key;
    int partial;
    int split;
    int splits;
};

// For merge.metal: a row is one (batch, query, head), and every tensor has a stride for each of the three; partial ones have one for the part too.
struct MergeParameters {
    long partial_part_stride;
    long partial_batch_stride;
    long partial_query_stride;
    long partial_head_stride;
    long partial_log_sum_exp_part_stride;
    long partial_log_sum_exp_batch_stride;
    long partial_log_sum_exp_query_stride;
    long partial_log_sum_exp_head_stride;
    long output_batch_stride;
    long output_query_stride;
    long output_head_stride;
    long log_sum_exp_batch_stride;
    long log_sum_exp_query_stride;
    long log_sum_exp_head_stride;
    long rows;
    long queries;
    long heads;
    long parts;
    long dim;
};

// For cache.metal. Slots of a cache are [kvHeads, dim], contiguous; new tokens have strides.
struct CacheParameters {
    long key_token_stride;
    long key_head_stride;
    long value_token_stride;
    long value_head_stride;
    int heads;
    int key_dim;
    int value_dim;
    int reserved;
};

// Slots, counted over the whole cache, to copy from one block to another.
struct SlotCopy {
    long from;
    long to;
    long slots;
};
#line 1 "special_values.metal"
// Values that are infinite or NaN, told and summed by bits, since fast math gives no meaning to arithmetic with them.

// A special value as two bits, so that a sum of several is their bitwise or; 0 for every other number.
constant uint POSITIVE_INFINITY = 1u;
constant uint NEGATIVE_INFINITY = 2u;
constant uint NOT_A_NUMBER = 3u;

INLINE bool is_special(float x) { return (as_type<uint>(x) & 0x7F800000u) == 0x7F800000u; }
INLINE bool is_special(half x) { return (uint(as_type<ushort>(x)) & 0x7C00u) == 0x7C00u; }
INLINE bool is_special(bfloat_bits x) { return (uint(x) & 0x7F80u) == 0x7F80u; }

// Whether there is one among several, all at once: one more in the exponent's lowest bit carries into the sign's place only where all bits of the exponent are set. Carries of many are joined by a bitwise or, and looked at
// once: 3 instructions for each 32 bits, where one test an element takes as many as that for each of them, and a choice besides.
INLINE uint carries_of(float4 x)
{
    uint4 exponents = (as_type<uint4>(x) & 0x7F800000u) + 0x00800000u;
    return (exponents.x | exponents.y) | (exponents.z | exponents.w);
}
INLINE uint carries_of(half4 x)
{
    uint2 exponents = (as_type<uint2>(x) & 0x7C007C00u) + 0x04000400u;
    return exponents.x | exponents.y;
}
INLINE uint carries_of(bfloat_bits4 x)
{
    uint2 exponents = (as_type<uint2>(x) & 0x7F807F80u) + 0x00800080u;
    return exponents.x | exponents.y;
}
INLINE bool has_special(uint carries) { return (carries & 0x80008000u) != 0u; }

INLINE uint special_of(float x)
{
    uint bits = as_type<uint>(x);
    if (!is_special(x)) return 0u;
    if ((bits & 0x007FFFFFu) != 0u) return NOT_A_NUMBER;
    return (bits >> 31) != 0u ? NEGATIVE_INFINITY : POSITIVE_INFINITY;
}

// A finished sum and what was left out of it.
INLINE float with_special(float x, uint special)
{
    if (special == 0u) return x;
    uint all = special | special_of(x);
    return as_type<float>(all == NOT_A_NUMBER ? 0x7FC00000u : all == NEGATIVE_INFINITY ? 0xFF800000u : 0x7F800000u);
}
#line 1 "slopes.metal"
// Slopes of ALiBi, as the host has them: a table, one a query head.

struct AlibiSlopes {
    device const float *of_heads;
};

INLINE float slope_of(AlibiSlopes slopes, int head) { return slopes.of_heads[head]; }
#line 1 "functions.metal"
// What the text of score and mask functions is made of beside the language's own operators. Infinities and NaN are ordinary numbers to them, so a library with functions relies on safe math where others do not.

// The sign is the dividend's; exact for whole numbers below 2^24.
INLINE float remainder_of(float a, float b) { return fma(-trunc(precise::divide(a, b)), b, a); }

// NaN if one is, told by its bits: the text compiles without a warning under fast math too.
INLINE bool is_nan(float x) { return (as_type<uint>(x) & 0x7FFFFFFFu) > 0x7F800000u; }
INLINE float smaller_of(float a, float b) { return (b < a || is_nan(b)) ? b : a; }
INLINE float larger_of(float a, float b) { return (b > a || is_nan(b)) ? b : a; }

// The nearest entry that a table has: of NaN, and of what is below 0, the first. The number of entries is exact as a float.
INLINE int entry_of(float index, int count)
{
    float bounded = index > 0.0f ? index : 0.0f;
    return bounded < float(count) ? int(bounded) : count - 1;
}
#line 1 "functions of the call"
// What the call's functions know of a row beside its place.
struct FunctionOperands {
    int batch;
};

INLINE bool mask_function(thread const FunctionOperands &, int, int, int position, int tile, int j, PARAMETERS)
{
    float v3 = float(position - tile) - float(j);
    bool v4 = 0.0f <= v3;
    bool v6 = v3 < 120.0f;
    bool v7 = v4 && v6;
    float v9 = remainder_of(v3, 3.0f);
    bool v10 = v9 == 0.0f;
    bool v11 = v7 && v10;
    return v11;
}
#line 1 "scores.metal"
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
    FunctionOperands functions;
#line 26 "scores.metal"
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
    FunctionOperands functions;
#line 38 "scores.metal"
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
    row.functions = operands.functions;
#line 70 "scores.metal"
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
INLINE bool modifies_scores() { return true; }
#line 146 "scores.metal"

INLINE float unit_of_scores(PARAMETERS parameters) { return has_natural_scores() ? 1.0f : parameters.scale; }

// Whether positions and the mask function let a row see key tile + j.
INLINE bool keeps_key(thread const Row &row, int tile, int j, PARAMETERS parameters)
{
    int key = tile + j;
    return key >= row.start && key < row.end && mask_function(row.functions, row.head, row.query, int(row.position), tile, j, parameters);
}
#line 148 "scores.metal"

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
    scale(score, parameters);
    if (has_soft_cap) cap_softly(score, parameters);
    if (has_bias) add_bias(score, row, key);
    if (has_alibi) subtract_distance(score, row, tile, j);
    if (has_mask) apply_mask(score, row, key);
    if (!mask_function(row.functions, row.head, row.query, int(row.position), tile, j, parameters)) score.is_seen = false;
#line 204 "scores.metal"
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
#line 1 "rows.metal"
// The end of a row: sink, division by the sum, log-sum-exp, rounding to the output type.

struct RowEnd {
    float factor;           // what the row's sum of weighted values is multiplied with
    float log_sum_exp;
};

// From the maximum m of the row's scores, in units of `unit` natural logarithms, and the sum l of its weights relative to m.
INLINE RowEnd end_of_row(float maximum, float sum, float unit, thread const Row &row, thread const Operands &operands)
{
    RowEnd end;
    float sink = has_sinks ? operands.sink_logits[row.head] : negative_infinity();
    float m = maximum * unit;
    if (sum == 0.0f) {
        end.factor = 0.0f;
        end.log_sum_exp = sink;
    } else if (is_negative_infinity(sink)) {
        end.factor = 1.0f / sum;
        end.log_sum_exp = m + precise::log(sum);
    } else {
        // Relative to the larger of the two, so that neither exponential overflows.
        float top = sink > m ? sink : m;
        float weight = precise::exp(m - top);
        float total = sum * weight + precise::exp(sink - top);
        end.factor = weight / total;
        end.log_sum_exp = top + precise::log(total);
    }
    return end;
}

INLINE device QUERY_T *output_row(device QUERY_T *output, thread const Row &row, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    return output + (sequence.output_start + row.query * parameters.output_token_stride + row.head * parameters.output_head_stride);
}

INLINE void store_log_sum_exp(float value, thread const Row &row, thread const Operands &operands, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    operands.log_sum_exp[sequence.log_sum_exp_start + row.head * parameters.log_sum_exp_head_stride + row.query * parameters.log_sum_exp_query_stride] = value;
}

// Four elements of a row from column d on; those beyond its end are nowhere.
INLINE void store4(device QUERY_T *row, float4 elements, int d, int columns)
{
    if (d < columns) row[d] = narrow<QUERY_T>(elements.x);
    if (d + 1 < columns) row[d + 1] = narrow<QUERY_T>(elements.y);
    if (d + 2 < columns) row[d + 2] = narrow<QUERY_T>(elements.z);
    if (d + 3 < columns) row[d + 3] = narrow<QUERY_T>(elements.w);
}
#line 1 "specials.metal"
// Values that are infinite or NaN, "special" for short. A weight of zero does not undo them (0 * NaN is NaN), and matrix products have one weight for each row and key, so sums
// are taken with zeros in their place: what a row may not see cannot change a bit of it. A kernel remembers between which keys there was one, which is nowhere, as a rule. Where
// there was, each lane looks through those keys once its results are stored, and puts into its elements what their rows do see: infinity plus infinity of the other sign is NaN.
// What they are as bits is in special_values.metal.

// Keys [first, end) among which all special values are; at first none.
struct KeySpan {
    int first;
    int end;
};

INLINE KeySpan no_keys()
{
    KeySpan span;
    span.first = 0x7FFFFFFF;
    span.end = 0;
    return span;
}

INLINE void note_key(thread KeySpan &span, int key, bool found)
{
    span.first = found ? min(span.first, key) : span.first;
    span.end = found ? max(span.end, key + 1) : span.end;
}

// An element of a key's value, or zero in place of a special one.
template <typename T> INLINE T without_special(T element, int key, thread KeySpan &specials)
{
    bool found = is_special(element);
    note_key(specials, key, found);
    if (found) element = 0;
    return element;
}

// Four of them.
template <typename T4> INLINE T4 without_specials(T4 elements, int key, thread KeySpan &specials)
{
    bool x = is_special(elements.x);
    bool y = is_special(elements.y);
    bool z = is_special(elements.z);
    bool w = is_special(elements.w);
    note_key(specials, key, x || y || z || w);
    if (x) elements.x = 0;
    if (y) elements.y = 0;
    if (z) elements.z = 0;
    if (w) elements.w = 0;
    return elements;
}

// What the lanes of a threadgroup have found: each simdgroup leaves its span, and after a barrier everyone has all of them.
INLINE void share_span(threadgroup int2 *spans, KeySpan span, uint simdgroup_index, uint lane)
{
    int first = simd_min(span.first);
    int end = simd_max(span.end);
    if (lane == 0) spans[simdgroup_index] = int2(first, end);
}

INLINE KeySpan span_of_all(threadgroup const int2 *spans)
{
    KeySpan span = no_keys();
    for (int i = 0; i < SIMDGROUPS; i++) {
        span.first = min(span.first, spans[i].x);
        span.end = max(span.end, spans[i].y);
    }
    return span;
}

// Adds what a row sees of the special values between two keys to its results, where they were stored: RUN columns from first_column on, and as many after each STRIDE, up to end_column. Only
// the lane that has stored them may ask, since no other could be sure to find them.
template <int RUN, int STRIDE, typename T>
INLINE void add_specials(
    device T *results, thread const Row &row, thread const KeyRows &values, KeySpan specials, int first_column, int end_column, PARAMETERS parameters)
{
    int first = max(specials.first, row.start);
    int end = min(specials.end, row.end);
    if (first >= end) return;
    ROLLED
    for (int start = first_column; start < end_column; start += STRIDE) {
        ROLLED
        for (int column = start; column < min(start + RUN, end_column); column++) {
            uint special = 0u;
            ROLLED
            for (int key = first; key < end; key++) {
                uint of_key = special_of(widen(key_row(values, key)[column]));
                if (of_key != 0u && sees_key(row, key, parameters)) special |= of_key;
            }
            if (special != 0u) results[column] = narrow<T>(with_special(widen(results[column]), special));
        }
    }
}
#line 1 "splits.metal"
// Partial results: the keys of a sequence with few rows are split among threadgroups. Each leaves m, l and O of its rows in floats, and merge_splits.metal combines
// them, always in the order of the splits: m = max m_i, l = sum l_i exp(m_i - m), O = sum O_i exp(m_i - m).

// Where the partial result of a row lies. A sequence's partial results are [split, key/value head, row]; an item knows the first of its split.
INLINE long partial_row(int first, int head, int row, thread const SequenceEntry &sequence, PARAMETERS parameters)
{
    return first + (head * (long(sequence.query_length) * parameters.group) + row);
}
#line 1 "merge_splits.metal"
// Merges partial results (splits.metal). One simdgroup a row; here an item's keys are its splits [first_key, end_key).

THREADGROUP_OF(128) kernel void merge_splits(
    device QUERY_T *output [[buffer(3)]],
    device const SequenceEntry *sequences [[buffer(4)]],
    device const WorkItem *items [[buffer(5)]],
    device const uchar *mask [[buffer(7)]],
    device const uchar *bias [[buffer(8)]],
    device float *log_sum_exp [[buffer(9)]],
    device const float *alibi_slopes [[buffer(10)]],
    device const float *sink_logits [[buffer(11)]],
    device const float *partial_outputs [[buffer(12)]],
    device const float *partial_statistics [[buffer(13)]],
    constant AttentionParameters &parameters [[buffer(14)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    WorkItem item = items[place.x];
    SequenceEntry sequence = sequences[item.sequence];
    int head = int(place.y);
    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}, {}};
#line 23 "merge_splits.metal"
    int index = item.first_row + int(simdgroup_index);
    if (index >= item.end_row) return;
    Row row = row_at(index, head, sequence, operands, parameters);
    long first = partial_row(item.partial, head, index, sequence, parameters);
    long stride = long(parameters.key_value_heads) * sequence.query_length * parameters.group;

    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;
    float maximum = NEVER_SEEN;
    for (int split = item.first_key; split < item.end_key; split++) {
        maximum = max(maximum, partial_statistics[(first + split * stride) * 2]);
    }
    float base = base_of(maximum);
    float sum = 0.0f;
    for (int split = item.first_key; split < item.end_key; split++) {
        device const float *statistics = partial_statistics + (first + split * stride) * 2;
        sum = fma(statistics[1], weight_of(statistics[0], base, factor), sum);
    }

    RowEnd row_end = end_of_row(maximum, sum, unit, row, operands);
    device QUERY_T *to = output_row(output, row, sequence, parameters);
    for (int d = int(lane); d < VALUE_DIM; d += 32) {
        float o = 0.0f;
        uint special = 0u;
        for (int split = item.first_key; split < item.end_key; split++) {
            long at = first + split * stride;
            float partial = partial_outputs[at * VALUE_DIM + d];
            uint of_split = special_of(partial);
            special |= of_split;
            if (of_split == 0u) o = fma(partial, weight_of(partial_statistics[at * 2], base, factor), o);
        }
        to[d] = narrow<QUERY_T>(with_special(o * row_end.factor, special));
    }
    if (has_log_sum_exp && lane == 0) store_log_sum_exp(row_end.log_sum_exp, row, operands, sequence, parameters);
}
#line 1 "plain.metal"
// Attention of one row a simdgroup: any dimensions, every feature, no threadgroup memory. The path for dimensions that the other kernels do not take, and what
// those are compared with on a device.
//
// Lanes share the dimensions: lane l has l, l + 32, ... of Q, K, V and O. Then they share the keys: 32 products make a tile, and each lane takes one of them through
// the softmax.
//
// QUERY_T, KEY_VALUE_T, KEY_DIM, VALUE_DIM and SIMDGROUPS come from the host.

#define KEY_SLOTS ((KEY_DIM + 31) / 32)
#define VALUE_SLOTS ((VALUE_DIM + 31) / 32)

THREADGROUP_OF(SIMDGROUPS * 32) kernel void plain(
    device const QUERY_T *query [[buffer(0)]],
    device const KEY_VALUE_T *key [[buffer(1)]],
    device const KEY_VALUE_T *value [[buffer(2)]],
    device QUERY_T *output [[buffer(3)]],
    device const SequenceEntry *sequences [[buffer(4)]],
    device const WorkItem *items [[buffer(5)]],
    device const int *block_tables [[buffer(6)]],
    device const uchar *mask [[buffer(7)]],
    device const uchar *bias [[buffer(8)]],
    device float *log_sum_exp [[buffer(9)]],
    device const float *alibi_slopes [[buffer(10)]],
    device const float *sink_logits [[buffer(11)]],
    device float *partial_outputs [[buffer(12)]],
    device float *partial_statistics [[buffer(13)]],
    constant AttentionParameters &parameters [[buffer(14)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane_index [[thread_index_in_simdgroup]])
{
    WorkItem item = items[place.x];
    SequenceEntry sequence = sequences[item.sequence];
    int head = int(place.y);
    int lane = int(lane_index);
    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}, {item.sequence}};
#line 37 "plain.metal"
    KeyRows keys = keys_of(head, key, block_tables, sequence, parameters);
    KeyRows values = values_of(head, value, block_tables, sequence, parameters);
    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;

    for (int index = item.first_row + int(simdgroup_index); index < item.end_row; index += SIMDGROUPS) {
        Row row = row_at(index, head, sequence, operands, parameters);
        row.start = max(row.start, item.first_key);
        row.end = min(row.end, item.end_key);

        device const QUERY_T *from = query + (sequence.query_start + row.query * parameters.query_token_stride + row.head * parameters.query_head_stride);
        float query_row[KEY_SLOTS];
        float outputs[VALUE_SLOTS];
        UNROLL
        for (int i = 0; i < KEY_SLOTS; i++) {
            query_row[i] = 0.0f;
            if (i * 32 + lane < KEY_DIM) query_row[i] = widen(from[i * 32 + lane]);
        }
        UNROLL
        for (int i = 0; i < VALUE_SLOTS; i++) outputs[i] = 0.0f;
        float maximum = NEVER_SEEN;
        float sum = 0.0f;
        KeySpan specials = no_keys();   // of the lane's columns

        for (int tile = row.start / 32 * 32; tile < row.end; tile += 32) {
            int first = max(row.start - tile, 0);
            int end = min(row.end - tile, 32);
            if (!simd_any(keeps_key(row, tile, lane, parameters))) continue;
#line 64 "plain.metal"

            float score = 0.0f;
            for (int j = first; j < end; j++) {
                device const KEY_VALUE_T *k = key_row(keys, tile + j);
                float product = 0.0f;
                UNROLL
                for (int i = 0; i < KEY_SLOTS; i++) {
                    if (i * 32 + lane < KEY_DIM) product = fma(query_row[i], widen(k[i * 32 + lane]), product);
                }
                product = simd_sum(product);
                if (j == lane) score = product;
            }

            score = score_of(score, row, tile, lane, parameters);
            float new_maximum = max(maximum, simd_max(score));
            float base = base_of(new_maximum);
            float rescale = weight_of(maximum, base, factor);
            float weight = weight_of(score, base, factor);
            maximum = new_maximum;
            sum = fma(sum, rescale, simd_sum(weight));

            // The tile is summed on its own and then added.
            float sums[VALUE_SLOTS];
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) sums[i] = 0.0f;
            for (int j = first; j < end; j++) {
                device const KEY_VALUE_T *v = key_row(values, tile + j);
                float w = simd_shuffle(weight, ushort(j));
                UNROLL
                for (int i = 0; i < VALUE_SLOTS; i++) {
                    if (i * 32 + lane < VALUE_DIM) sums[i] = fma(w, without_special(widen(v[i * 32 + lane]), tile + j, specials), sums[i]);
                }
            }
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) outputs[i] = fma(outputs[i], rescale, sums[i]);
        }

        if (item.partial < 0) {
            RowEnd row_end = end_of_row(maximum, sum, unit, row, operands);
            device QUERY_T *to = output_row(output, row, sequence, parameters);
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) {
                if (i * 32 + lane < VALUE_DIM) to[i * 32 + lane] = narrow<QUERY_T>(outputs[i] * row_end.factor);
            }
            add_specials<1, 32>(to, row, values, specials, lane, values.columns, parameters);
            if (has_log_sum_exp && lane == 0) store_log_sum_exp(row_end.log_sum_exp, row, operands, sequence, parameters);
        } else {
            long partial = partial_row(item.partial, head, index, sequence, parameters);
            device float *to = partial_outputs + partial * VALUE_DIM;
            UNROLL
            for (int i = 0; i < VALUE_SLOTS; i++) {
                if (i * 32 + lane < VALUE_DIM) to[i * 32 + lane] = outputs[i];
            }
            add_specials<1, 32>(to, row, values, specials, lane, values.columns, parameters);
            if (lane == 0) {
                partial_statistics[partial * 2] = maximum;
                partial_statistics[partial * 2 + 1] = sum;
            }
        }
    }
}
