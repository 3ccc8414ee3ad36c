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
