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
