// The self-test of fragments.metal on a device: what each lane holds of a matrix that was loaded by the library's own function, of a product of two such matrices,
// and of the same product when the factors were put in place by our lane map. The host compares the first with lane_map.txt, and the others with the product.

#define MATRIX simdgroup_matrix<float, 8, 8>

// Elements [section, lane, 2].
kernel void lane_map(
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
    float2 product = multiply_add(float2(left[at], left[at + 1]), float2(right[at], right[at + 1]), float2(0.0f));
    elements[128 + lane * 2] = product.x;
    elements[128 + lane * 2 + 1] = product.y;
}
