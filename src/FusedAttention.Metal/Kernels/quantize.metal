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
