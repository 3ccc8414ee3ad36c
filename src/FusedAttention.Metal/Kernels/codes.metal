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
