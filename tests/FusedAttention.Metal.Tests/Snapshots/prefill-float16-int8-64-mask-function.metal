#line 1 "includes.metal"
// Before everything else, the host's definitions included: their names are ours, and Metal's headers are not to see them.

#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
#define QUERY_T half
#define KEY_VALUE_T half
#define CODE_T char
#define KEY_DIM 64
#define VALUE_DIM 64
#define TILE_KEYS 16
#define SIMDGROUPS 4
#define ROW_BLOCKS 2
#define DIM_PARTS 1
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
#line 5 "parameters.metal"
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
    ScalePlaces key_scales;
    ScalePlaces value_scales;
#line 29 "parameters.metal"
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
#line 1 "codes.metal"
// Keys and values of 8 bits: CODE_T is what memory holds, char or e4m3_bits, and KEY_VALUE_T is half, in which every code is exact. The host puts this file, scales.metal, and lines of the others, into the text of calls that
// have codes (CodeText).

// Float8E4M3 as the Open Compute Project has it: sign, 4 bits of exponent biased by 7, 3 of fraction; no infinities, NaN is 0x7F and 0xFF. The language has no such type.
typedef uchar e4m3_bits;
typedef uchar4 e4m3_bits4;

#define CODE_T4 VECTOR_OF(CODE_T, 4)

// Two codes, in the lower bytes of a word's halves, as halves. Codes from -128 to 127, with 128 added, are the lower bits of halves from 1,024 to 1,279, whose last bit is worth 1.
INLINE half2 halves_of_int8(uint codes) { return as_type<half2>((codes ^ 0x00800080u) | 0x64006400u) - half(1152.0f); }

// Two codes, in the upper bytes of a word's halves, as halves; what is NaN is 480 here. The exponent's bias goes from 7 to 15. A number below 2^-6 has no leading one and gets one, from which that number is twice what is
// above 2^-7: for all others that is more than they are. Halves below 2^-14, which arithmetic may take for 0, do not occur.
INLINE half2 finite_halves_of_e4m3(uint codes)
{
    half2 raised = as_type<half2>(((codes >> 1) & 0x3F803F80u) + 0x20002000u);
    half2 doubled = raised + raised - half(0.015625f);
    short2 numbers = min(as_type<short2>(raised), as_type<short2>(doubled));        // positive halves have the order of their bits, and a zero of either sign lies below them
    return as_type<half2>(as_type<uint>(numbers) | (codes & 0x80008000u));
}

// 480 with the missing bit of its exponent is NaN.
INLINE half2 halves_of_e4m3(uint codes)
{
    uint nans = ((((codes >> 1) & 0x3F803F80u) + 0x00800080u) & 0x40004000u) >> 1;
    return as_type<half2>(as_type<uint>(finite_halves_of_e4m3(codes)) | nans);
}

// Four of them: the first and the third, and the second and the fourth, are widened together.
INLINE half4 halves_of(char4 codes)
{
    uint word = as_type<uint>(codes);
    half2 first = halves_of_int8(word & 0x00FF00FFu);
    half2 second = halves_of_int8((word >> 8) & 0x00FF00FFu);
    return half4(first.x, second.x, first.y, second.y);
}
INLINE half4 halves_of(e4m3_bits4 codes)
{
    uint word = as_type<uint>(codes);
    half2 first = halves_of_e4m3(word << 8);
    half2 second = halves_of_e4m3(word);
    return half4(first.x, second.x, first.y, second.y);
}

// Values may be 480 where they are NaN, since a weight of 0 undoes that; rows that see one get it in the end (specials.metal).
INLINE half4 finite_halves_of(char4 codes) { return halves_of(codes); }
INLINE half4 finite_halves_of(e4m3_bits4 codes)
{
    uint word = as_type<uint>(codes);
    half2 first = finite_halves_of_e4m3(word << 8);
    half2 second = finite_halves_of_e4m3(word);
    return half4(first.x, second.x, first.y, second.y);
}

// What has_special() is asked of (special_values.metal): the highest bit of a half of a word.
INLINE uint carries_of(char4) { return 0u; }
INLINE uint carries_of(e4m3_bits4 codes)
{
    uint nans = ((as_type<uint>(codes) & 0x7F7F7F7Fu) + 0x01010101u) & 0x80808080u;
    return nans | (nans << 8);
}

INLINE float widen(char code) { return float(code); }
INLINE float widen(e4m3_bits code) { return float(halves_of_e4m3(uint(code) << 8).x); }
#line 1 "scales.metal"
// Scales of keys and values of 8 bits. A key is its scale times its codes, and so is its score: products are of codes, and the scale is multiplied into the finished sum. The scale of a value is multiplied into its weight.

FUNCTION_CONSTANT(bool, has_key_scale, 9);
FUNCTION_CONSTANT(bool, has_value_scale, 10);

// Scales of the keys, or of the values, of one head of one sequence: they lie as keys do.
struct ScaleRows {
    device const float *first;
    long token_stride;
    long block_stride;
    device const int *blocks;
    int block_size;                     // 0 when keys lie one stride apart
};

// `start` is where the sequence's keys, or values, begin, from which the host's factor makes the place of its first token's scale where sequences are packed; otherwise scales begin by the number of the sequence.
INLINE ScaleRows scales_of(
    int head, int number, long start, device const float *scales, device const int *block_tables, int block_size, thread const SequenceEntry &sequence, constant ScalePlaces &places)
{
    long first = long((ulong(start) >> places.start_shift) * places.start_factor) + number * places.sequence_stride;
    ScaleRows rows;
    rows.first = scales + (first + head * places.head_stride);
    rows.token_stride = places.token_stride;
    rows.block_stride = places.block_stride;
    rows.blocks = block_tables + sequence.block_table_start;
    rows.block_size = block_size;
    return rows;
}

INLINE device const float *scale_at(thread const ScaleRows &rows, int key)
{
    if (rows.block_size == 0) return rows.first + key * rows.token_stride;
    int block = key / rows.block_size;
    return rows.first + (rows.blocks[block] * rows.block_stride + (key - block * rows.block_size) * rows.token_stride);
}

// The scale of a key of a tile. In a tile that lies in one block, or in none, it is a 32-bit distance from that of the tile's first key, which is not read for that.
INLINE float scale_in_tile(thread const ScaleRows &rows, bool is_run, int tile, int key)
{
    return is_run ? scale_at(rows, tile)[(key - tile) * int(rows.token_stride)] : *scale_at(rows, key);
}

// A value's weight times its scale. The weight of a key that is hidden is 0, and stays so whatever its scale is: told by bits, since fast math takes a product with 0 for 0.
INLINE float scaled_weight(float weight, float scale) { return as_type<uint>(weight) == 0u ? 0.0f : weight * scale; }
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
#line 1 "fragments.metal"
// The one place that knows how the 64 elements of a simdgroup matrix lie in the 32 lanes. The layout is not documented; lane_map.metal checks it on the
// device before any kernel relies on it.
//
// A lane holds two neighbours of one row: elements (row, column) and (row, column + 1) with
//     row    = ((lane / 4) & 4) + (lane / 2) % 4
//     column = ((lane / 4) & 2) * 2 + (lane % 2) * 2
// so the 8 elements of a row are in the 4 lanes that differ in bits 0 and 3. The layout is the same for all three operands: a product is the left operand of
// the next one as it stands.

INLINE int row_of_lane(uint lane) { return int(((lane / 4) & 4) + (lane / 2) % 4); }
INLINE int column_of_lane(uint lane) { return int(((lane / 4) & 2) * 2 + (lane % 2) * 2); }

// Over the 8 elements of a row, given the lane's share.
INLINE float max_of_row(float x)
{
    x = max(x, simd_shuffle_xor(x, ushort(1)));
    return max(x, simd_shuffle_xor(x, ushort(8)));
}

INLINE float sum_of_row(float x)
{
    x += simd_shuffle_xor(x, ushort(1));
    return x + simd_shuffle_xor(x, ushort(8));
}

// What factors of a product are multiplied as: half stays half, whose products are exact in float, and takes no conversion and half the registers; bfloat16, which the hardware does not multiply before M3, becomes float.
template <typename T2> struct ElementOf;
template <> struct ElementOf<float2> { typedef float type; };
template <> struct ElementOf<half2> { typedef half type; };

INLINE float2 factors(float x, float y) { return float2(x, y); }
INLINE half2 factors(half x, half y) { return half2(x, y); }
INLINE float2 factors(bfloat_bits x, bfloat_bits y) { return float2(widen(x), widen(y)); }

// A lane's two elements of a * b + c, from its two elements of each. Sums are floats.
template <typename A2, typename B2> INLINE float2 multiply_add(A2 a, B2 b, float2 c)
{
    simdgroup_matrix<typename ElementOf<A2>::type, 8, 8> left;
    simdgroup_matrix<typename ElementOf<B2>::type, 8, 8> right;
    simdgroup_matrix<float, 8, 8> sum;
    left.thread_elements()[0] = a.x;
    left.thread_elements()[1] = a.y;
    right.thread_elements()[0] = b.x;
    right.thread_elements()[1] = b.y;
    sum.thread_elements()[0] = c.x;
    sum.thread_elements()[1] = c.y;
    simdgroup_multiply_accumulate(sum, left, right, sum);
    return float2(sum.thread_elements()[0], sum.thread_elements()[1]);
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
    device const CODE_T *first;
    long token_stride;
    long block_stride;
    device const int *blocks;
    int block_size;                     // 0 when keys lie one stride apart
    int columns;                        // dimensions of a row
    ScaleRows scales;
#line 87 "scores.metal"
};

INLINE device const CODE_T *key_row(thread const KeyRows &rows, int key)
{
    if (rows.block_size == 0) return rows.first + key * rows.token_stride;
    int block = key / rows.block_size;
    return rows.first + (rows.blocks[block] * rows.block_stride + (key - block * rows.block_size) * rows.token_stride);
}

// Whether tiles of so many keys, which begin at multiples of it, lie in one block each. Then the address of a tile's first key is enough, with 32-bit distances from there: keys that lie too
// far apart for that are the plain kernel's (KernelTiles).
INLINE bool is_in_one_run(int tile_keys) { return block_size >= 0 && block_size % tile_keys == 0; }

INLINE device const CODE_T *row_of_run(thread const KeyRows &rows, device const CODE_T *base, int j) { return base + j * int(rows.token_stride); }

INLINE KeyRows keys_of(
    int head, device const CODE_T *key, device const int *block_tables, thread const SequenceEntry &sequence, PARAMETERS parameters)
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
    int head, device const CODE_T *value, device const int *block_tables, thread const SequenceEntry &sequence, PARAMETERS parameters)
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

// Four codes, as halves.
template <typename T4> INLINE T4 load4(device const CODE_T *row, int d, int columns) { return halves_of(load4<CODE_T4, CODE_T>(row, d, columns)); }
#line 140 "scores.metal"

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
#line 1 "prefill.metal"
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
// Widening takes registers too: E4M3 under queries that are not halves spilled 44 bytes at D = 256 with two steps ahead, 9 times a tile, and 12 with one, once.
#define HELD_REGISTERS (KEY_STEPS * int(sizeof(factors(QUERY_T(0), QUERY_T(0)))) / 2 + VALUE_FRAGMENTS * 2)
#define STEPS_AHEAD (ROW_BLOCKS > 1 || HELD_REGISTERS > 60 ? 1 : 2)
#line 35 "prefill.metal"
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
    atomic_int kept_tile;               // 1 behind the first key of a tile of which somebody's rows keep a key
#line 52 "prefill.metal"
};

// Behind that is what a lane of a part hands to the same lane of the other: scores or weights of its rows, and what their outputs are multiplied with.
#define EXCHANGE_FRAGMENTS (ROW_BLOCKS * (KEY_FRAGMENTS + 1))
#define EXCHANGE_BYTES (DIM_PARTS > 1 ? ROW_SIMDGROUPS * EXCHANGE_FRAGMENTS * 32 * int(sizeof(float2)) : 0)

// Behind that are the scales of the tile's keys and values.
#define SCALE_BYTES (TILE_KEYS * int(sizeof(float2)))
#define STAGED_ELEMENTS (TILE_KEYS * TILE_STRIDE + (int(sizeof(ItemNotes)) + EXCHANGE_BYTES + SCALE_BYTES) / int(sizeof(KEY_VALUE_T)))
#line 58 "prefill.metal"

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
    device const CODE_T *base = is_run ? key_row(rows, tile) : rows.first;
    int column = int(thread_index % STAGING_THREADS * 4);
    int key_of_thread = staged_key(thread_index);
    UNROLL
    for (int first = 0; first < TILE_KEYS; first += STAGING_KEYS) {
        int j = first + key_of_thread;
        if (j >= TILE_KEYS) continue;
        int key = tile + j;
        // All loads of a key are under way at once. Only the last turn may have threads without work.
        CODE_T4 elements[TURNS];
        UNROLL
        for (int turn = 0; turn < TURNS; turn++) elements[turn] = CODE_T4(0);
#line 103 "prefill.metal"
        if (key >= start && key < end) {
            device const CODE_T *from = (is_run ? row_of_run(rows, base, j) : key_row(rows, key)) + column;
            UNROLL
            for (int turn = 0; turn < TURNS; turn++) elements[turn] = load4<CODE_T4, CODE_T>(from, turn * STAGING_THREADS * 4, rows.columns - column);
#line 107 "prefill.metal"
        }
        threadgroup KEY_VALUE_T *to = staged + (j * STRIDE + column);
        uint carries = 0u;
        UNROLL
        for (int turn = 0; turn < TURNS; turn++) {
            if (IS_VALUE) carries |= carries_of(elements[turn]);
            FENCE_LOADS(turn);
            if (turn * STAGING_THREADS * 4 + column < PADDED_DIM) *(threadgroup KEY_VALUE_T4 *)(to + turn * STAGING_THREADS * 4) = IS_VALUE ? finite_halves_of(elements[turn]) : halves_of(elements[turn]);
#line 114 "prefill.metal"
        }
        if (IS_VALUE && has_special(carries)) {
            KeySpan specials = no_keys();
            note_key(specials, key, true);
#line 118 "prefill.metal"
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
#line 226 "prefill.metal"

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
#line 226 "prefill.metal"

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
    threadgroup float2 *scales = (threadgroup float2 *)(notes + 1) + EXCHANGE_BYTES / int(sizeof(float2));
#line 321 "prefill.metal"
    if (thread_index == 0) {
        atomic_store_explicit(&notes->first_row, item.first_row, memory_order_relaxed);
        atomic_store_explicit(&notes->first_special, no_keys().first, memory_order_relaxed);
        atomic_store_explicit(&notes->end_special, no_keys().end, memory_order_relaxed);
        atomic_store_explicit(&notes->kept_tile, 0, memory_order_relaxed);
#line 325 "prefill.metal"
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    float unit = unit_of_scores(parameters);
    float factor = unit * LOG2_E;
    for (int tile = start / TILE_KEYS * TILE_KEYS; tile < end; tile += TILE_KEYS) {
        bool sees_tile = has_rows && tile < end_of_any && tile + TILE_KEYS > start_of_any;
        bool sees_whole_tile = tile >= start_of_all && tile + TILE_KEYS <= end_of_all;
        Scores scores[ROW_BLOCKS];
        float rescale[ROW_BLOCKS];
        if (sees_tile) sees_tile = simd_any(keeps_keys(rows, tile, lane_column, parameters));
        if (sees_tile && lane == 0) atomic_store_explicit(&notes->kept_tile, tile + 1, memory_order_relaxed);
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (atomic_load_explicit(&notes->kept_tile, memory_order_relaxed) != tile + 1) continue;
#line 335 "prefill.metal"

        threadgroup_barrier(mem_flags::mem_threadgroup);
        stage<false, STAGED_KEY_DIM, KEY_STRIDE>(staged, notes, keys, tile, start, end, thread_index);
        if (has_key_scale || has_value_scale) stage_scales(scales, keys, values, tile, start, end, thread_index);
#line 338 "prefill.metal"
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
                if (has_key_scale) scale_scores(scores[b].fragments, scales, lane_column);
#line 354 "prefill.metal"
                if (modifies_scores() || !sees_whole_tile) modify_scores(scores[b].fragments, rows[b], tile, lane_column, parameters);
                rescale[b] = weigh(states[b], scores[b].fragments, factor);
                if (has_value_scale) scale_weights(scores[b].fragments, scales, lane_column);
#line 356 "prefill.metal"
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
#line 1 "prefill_kernel.metal"
// The entry point of prefill.metal: an item for each threadgroup, and a key/value head.

THREADGROUP_OF(THREADS) kernel void prefill(
    device const QUERY_T *query [[buffer(0)]],
    device const CODE_T *key [[buffer(1)]],
    device const CODE_T *value [[buffer(2)]],
    device QUERY_T *output [[buffer(3)]],
    device const SequenceEntry *sequences [[buffer(4)]],
    device const WorkItem *items [[buffer(5)]],
    device const int *block_tables [[buffer(6)]],
    device const uchar *mask [[buffer(7)]],
    device const uchar *bias [[buffer(8)]],
    device float *log_sum_exp [[buffer(9)]],
    device const float *alibi_slopes [[buffer(10)]],
    device const float *sink_logits [[buffer(11)]],
    constant AttentionParameters &parameters [[buffer(14)]],
    device const float *key_scale [[buffer(29)]],
    device const float *value_scale [[buffer(30)]],
#line 17 "prefill_kernel.metal"
    uint3 place [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    threadgroup KEY_VALUE_T4 tile_memory[STAGED_ELEMENTS / 4];

    WorkItem item = items[place.x];
    SequenceEntry sequence = sequences[item.sequence];
    int head = int(place.y);
    Operands operands = {mask, bias, log_sum_exp, sink_logits, {alibi_slopes}, {item.sequence}};
#line 28 "prefill_kernel.metal"
    KeyRows keys = keys_of(head, key, block_tables, sequence, parameters);
    KeyRows values = values_of(head, value, block_tables, sequence, parameters);
    keys.scales = scales_of(head, item.sequence, sequence.key_start, key_scale, block_tables, block_size, sequence, parameters.key_scales);
    values.scales = scales_of(head, item.sequence, sequence.value_start, value_scale, block_tables, block_size, sequence, parameters.value_scales);
#line 30 "prefill_kernel.metal"
    attend_block(
        query, keys, values, output, head, item, sequence, operands, parameters, (threadgroup KEY_VALUE_T *)tile_memory, thread_index, simdgroup_index, lane);
}
