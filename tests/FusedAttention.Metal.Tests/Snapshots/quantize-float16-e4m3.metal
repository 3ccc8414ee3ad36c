#line 1 "includes.metal"
// Before everything else, the host's definitions included: their names are ours, and Metal's headers are not to see them.

#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
#define ELEMENT_T e4m3_bits
#define SOURCE_T half
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
#line 1 "quantize.metal"
// Writing new tokens into a paged cache of 8 bits: each head of a token is quantized by itself, with a scale of its own, to the bits that the processor's rules give (KeyValueQuantization). ELEMENT_T is what the cache holds,
// char or e4m3_bits, and SOURCE_T the type of the tokens; both come from the host.
//
//     char:      scale = max|x| / 127, code = x / scale to the nearest whole number, ties to even, from -127 to 127; all codes are 0 where the scale is
//     e4m3_bits: scale = max|x| / 448, or 1 where that is 0, code = x / scale to the nearest number of the type, ties to even, at most 448; zeros keep their sign
//
// Divisions are those of floats, subnormal ones included, which arithmetic of the device may take for 0: numbers are taken apart and put together by their bits, and what is divided lies between 1 and 2.

#define THREADS 128

// A float's bits, whatever the source's type.
INLINE uint bits_of(float x) { return as_type<uint>(x); }
INLINE uint bits_of(bfloat_bits x) { return uint(x) << 16; }
INLINE uint bits_of(half x)
{
    uint bits = uint(as_type<ushort>(x));
    uint magnitude = bits & 0x7FFFu;
    uint wide = magnitude < 0x0400u ? as_type<uint>(float(magnitude) * 5.9604644775390625e-8f)     // units of 2^-24
        : (magnitude << 13) + (magnitude < 0x7C00u ? 0x38000000u : 0x70000000u);
    return wide | ((bits & 0x8000u) << 16);
}

// A magnitude above 0 as a fraction from 1 to 2 and the exponent's field, which is below 1 for subnormal ones.
struct Apart {
    float fraction;
    int exponent;
};

INLINE Apart taken_apart(uint magnitude)
{
    Apart apart;
    int shift = magnitude < 0x00800000u ? int(clz(magnitude)) - 8 : 0;
    apart.exponent = magnitude < 0x00800000u ? 1 - shift : int(magnitude >> 23);
    apart.fraction = as_type<float>(((magnitude << shift) & 0x007FFFFFu) | 0x3F800000u);
    return apart;
}

// |x| / scale. Beyond 2^20 on either side every number has the same code, so exponents stop there.
INLINE float quotient_of(uint magnitude, Apart scale)
{
    Apart number = taken_apart(magnitude);
    int exponent = clamp(number.exponent - scale.exponent, -20, 20);
    return as_type<float>(as_type<uint>(precise::divide(number.fraction, scale.fraction)) + (uint(exponent) << 23));
}

// The bits of magnitude / divisor. Where that is below 2^-126, it is a whole number of units of 2^-149, as the magnitude is.
INLINE uint scale_bits(uint magnitude, float divisor, uint whole_divisor, uint least_normal)
{
    if (magnitude >= least_normal) return as_type<uint>(precise::divide(as_type<float>(magnitude), divisor));
    uint units = magnitude < 0x00800000u ? magnitude : ((magnitude & 0x007FFFFFu) | 0x00800000u) << ((magnitude >> 23) - 1u);
    uint quotient = units / whole_divisor;
    uint rest = units - quotient * whole_divisor;
    return quotient + (rest * 2u > whole_divisor || (rest * 2u == whole_divisor && (quotient & 1u) != 0u) ? 1u : 0u);
}

// By the type of the codes: the scale of a row's largest magnitude, and the code of a number.
template <typename T> struct Codes;

template <> struct Codes<char> {
    static uint scale_of(uint largest) { return scale_bits(largest, 127.0f, 127u, 0x03FE0000u); }

    static char nearest(uint bits, uint scale)
    {
        uint magnitude = bits & 0x7FFFFFFFu;
        if (scale == 0u || magnitude == 0u) return char(0);
        int code = int(rint(min(quotient_of(magnitude, taken_apart(scale)), 127.0f)));
        return char((bits >> 31) != 0u ? -code : code);
    }
};

template <> struct Codes<e4m3_bits> {
    static uint scale_of(uint largest)
    {
        uint scale = scale_bits(largest, 448.0f, 448u, 0x04E00000u);
        return scale == 0u ? 0x3F800000u : scale;
    }

    static e4m3_bits nearest(uint bits, uint scale)
    {
        uint magnitude = bits & 0x7FFFFFFFu;
        uint sign = (bits >> 24) & 0x80u;
        if (magnitude > 0x7F800000u) return e4m3_bits(0x7F);
        if (magnitude == 0u) return e4m3_bits(sign);
        float quotient = min(quotient_of(magnitude, taken_apart(scale)), 448.0f);
        uint exact = as_type<uint>(quotient);

        // Below 2^-6 numbers are 2^-9 apart; above, the last 20 bits of the fraction are rounded away, and the exponent's bias goes from 127 to 7.
        uint code = exact < 0x3C800000u ? uint(rint(quotient * 512.0f)) : ((exact + 0x0007FFFFu + ((exact >> 20) & 1u)) >> 20) - 960u;
        return e4m3_bits(sign | code);
    }
};

// A threadgroup writes the keys (grid y 0) or values (1) of one token, a simdgroup each head in turn. A row is read twice; the second time it is in a cache.
THREADGROUP_OF(THREADS) kernel void append_codes(
    device const SOURCE_T *keys [[buffer(0)]],
    device const SOURCE_T *values [[buffer(1)]],
    device ELEMENT_T *key_cache [[buffer(2)]],
    device ELEMENT_T *value_cache [[buffer(3)]],
    device const long *slots [[buffer(4)]],
    constant CacheParameters &parameters [[buffer(5)]],
    device uint *key_scales [[buffer(6)]],
    device uint *value_scales [[buffer(7)]],
    uint3 place [[threadgroup_position_in_grid]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]])
{
    bool is_value = place.y == 1;
    int dim = is_value ? parameters.value_dim : parameters.key_dim;
    long token_stride = is_value ? parameters.value_token_stride : parameters.key_token_stride;
    long head_stride = is_value ? parameters.value_head_stride : parameters.key_head_stride;
    device const SOURCE_T *token = (is_value ? values : keys) + place.x * token_stride;
    long first_row = slots[place.x] * parameters.heads;
    device ELEMENT_T *codes = is_value ? value_cache : key_cache;
    device uint *scales = is_value ? value_scales : key_scales;
    for (int head = int(simdgroup_index); head < parameters.heads; head += THREADS / 32) {
        device const SOURCE_T *from = token + head * head_stride;
        uint largest = 0u;
        for (int i = int(lane); i < dim; i += 32) largest = max(largest, bits_of(from[i]) & 0x7FFFFFFFu);
        uint scale = Codes<ELEMENT_T>::scale_of(simd_max(largest));
        if (lane == 0) scales[first_row + head] = scale;
        device ELEMENT_T *to = codes + (first_row + head) * dim;
        for (int i = int(lane); i < dim; i += 32) to[i] = Codes<ELEMENT_T>::nearest(bits_of(from[i]), scale);
    }
}
