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
