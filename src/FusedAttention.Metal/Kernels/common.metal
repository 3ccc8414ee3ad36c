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
