// What every kernel family begins with. The text is compiled by Metal on the user's machine, and by clang for the emulator of the tests, so it keeps to the
// rules of docs/metal.md: kernels are plain functions, dimensions and types are macros that the host defines, features are function constants.

#include <metal_stdlib>
using namespace metal;

// A function constant is a constant of the pipeline: branches on it cost nothing. The emulator sets the same names from outside.
#ifdef FUSED_ATTENTION_EMULATOR
#define FUNCTION_CONSTANT(type, name, index) extern constant type name
#else
#define FUNCTION_CONSTANT(type, name, index) constant type name [[function_constant(index)]]
#endif

// "Nothing seen yet" for a running maximum. Finite, because fast math may assume that there are no infinities; far enough from -FLT_MAX
// that differences of two scores cannot overflow to it.
constant float NEVER_SEEN = -1.7e38f;

constant float LOG2_E = 1.44269504088896340736f;
constant float LN_2 = 0.69314718055994530942f;

// Written by bits: fast math gives no meaning to an expression that makes an infinity.
inline float negative_infinity() { return as_type<float>(0xFF800000u); }
