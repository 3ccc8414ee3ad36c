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

// A lane's two elements of a * b + c, from its two elements of each. Always floats: what they are loaded from is converted on the way.
INLINE float2 multiply_add(float2 a, float2 b, float2 c)
{
    simdgroup_matrix<float, 8, 8> left, right, sum;
    left.thread_elements()[0] = a.x;
    left.thread_elements()[1] = a.y;
    right.thread_elements()[0] = b.x;
    right.thread_elements()[1] = b.y;
    sum.thread_elements()[0] = c.x;
    sum.thread_elements()[1] = c.y;
    simdgroup_multiply_accumulate(sum, left, right, sum);
    return float2(sum.thread_elements()[0], sum.thread_elements()[1]);
}
