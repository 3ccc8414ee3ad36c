// The self-test of fragments.metal on a device: what each lane holds of a matrix that was loaded by the library's own function, of a product of two such matrices,
// and of the same product when the factors were put in place by our lane map: as floats, as halves, and one of each, which must all be the same. The host compares the first with lane_map.txt, and the others with the product.

#define MATRIX simdgroup_matrix<float, 8, 8>

// Elements [section, lane, 2].
THREADGROUP_OF(32) kernel void lane_map(
    device const float *left [[buffer(0)]],
    device const float *right [[buffer(1)]],
    device float *elements [[buffer(2)]],
    uint lane [[thread_index_in_simdgroup]])
{
    MATRIX a, b, c;
    simdgroup_load(a, left, 8);
    simdgroup_load(b, right, 8);
    elements[lane * 2] = a.thread_elements()[0];
    elements[lane * 2 + 1] = a.thread_elements()[1];

    simdgroup_multiply(c, a, b);
    elements[64 + lane * 2] = c.thread_elements()[0];
    elements[64 + lane * 2 + 1] = c.thread_elements()[1];

    int at = row_of_lane(lane) * 8 + column_of_lane(lane);
    float2 x = float2(left[at], left[at + 1]);
    float2 y = float2(right[at], right[at + 1]);
    half2 x_in_half = half2(half(x.x), half(x.y));
    half2 y_in_half = half2(half(y.x), half(y.y));
    float2 product = multiply_add(x, y, float2(0.0f));
    float2 of_halves = multiply_add(x_in_half, y_in_half, float2(0.0f));
    float2 of_both = multiply_add(x, y_in_half, float2(0.0f));
    float not_a_number = as_type<float>(0x7FC00000u);
    elements[128 + lane * 2] = product.x == of_halves.x && product.x == of_both.x ? product.x : not_a_number;
    elements[128 + lane * 2 + 1] = product.y == of_halves.y && product.y == of_both.y ? product.y : not_a_number;
}
