// Keys and values of 8 bits: CODE_T is what memory holds, char or e4m3_bits, and KEY_VALUE_T is half, in which every code is exact. The host puts this file, scales.metal, and lines of the others, into the text of calls that
// have codes (CodeText).

// Float8E4M3 as the Open Compute Project has it: sign, 4 bits of exponent biased by 7, 3 of fraction; no infinities, NaN is 0x7F and 0xFF. The language has no such type.
typedef uchar e4m3_bits;
typedef uchar4 e4m3_bits4;

#define CODE_T4 VECTOR_OF(CODE_T, 4)

// Two codes, in the lower bytes of a word's halves, as halves. Codes from -128 to 127, with 128 added, are the lower bits of halves from 1,024 to 1,279, whose last bit is worth 1.
INLINE half2 halves_of_int8(uint codes)
{
    return as_type<half2>((codes ^ 0x00800080u) | 0x64006400u) - half(1152.0f);
}

// The exponent's bias goes from 7 to 15. Numbers below 2^-6 have no leading one: they get one, which is subtracted again, rather than being halves below 2^-14, which arithmetic may take for 0.
INLINE half2 halves_of_e4m3(uint codes)
{
    uint magnitudes = codes & 0x007F007Fu;
    uint below = ~((magnitudes + 0x00780078u) >> 7) & 0x00010001u;      // 1 where the exponent is 0
    uint is_nan = ((magnitudes + 0x00010001u) >> 7) & 0x00010001u;
    uint bits = (magnitudes << 7) + 0x20002000u + (below << 10);
    half2 numbers = as_type<half2>(bits) - as_type<half2>((below << 13) | (below << 10));
    uint signs = (codes & 0x00800080u) << 8;
    return as_type<half2>(as_type<uint>(numbers) | signs | ((is_nan << 15) - (is_nan << 9)));
}

// Four of them: the first and the third, and the second and the fourth, are widened together.
INLINE half4 halves_of(char4 codes)
{
    uint word = as_type<uint>(codes);
    half2 even_ones = halves_of_int8(word & 0x00FF00FFu);
    half2 odd_ones = halves_of_int8((word >> 8) & 0x00FF00FFu);
    return half4(even_ones.x, odd_ones.x, even_ones.y, odd_ones.y);
}
INLINE half4 halves_of(e4m3_bits4 codes)
{
    uint word = as_type<uint>(codes);
    half2 even_ones = halves_of_e4m3(word);
    half2 odd_ones = halves_of_e4m3(word >> 8);
    return half4(even_ones.x, odd_ones.x, even_ones.y, odd_ones.y);
}

INLINE float widen(char code) { return float(code); }
INLINE float widen(e4m3_bits code) { return float(halves_of_e4m3(uint(code)).x); }
