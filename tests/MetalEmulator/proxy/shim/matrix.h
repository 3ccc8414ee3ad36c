#pragma once

namespace metal {

template <typename T, int Columns, int Rows>
struct simdgroup_matrix {
    typedef T storage __attribute__((ext_vector_type(2)));
    storage elements;
    thread storage& thread_elements() thread { return elements; }
};

template <typename A, typename B>
inline void simdgroup_multiply_accumulate(
    thread simdgroup_matrix<float, 8, 8>& d, thread simdgroup_matrix<A, 8, 8>& a, thread simdgroup_matrix<B, 8, 8>& b, thread simdgroup_matrix<float, 8, 8>& c) {
    float2 sum = c.elements;
    __asm__("matrix_multiply %0, %1, %2, %0" : "+v"(sum) : "v"(a.elements), "v"(b.elements));
    d.elements = sum;
}

} // namespace metal
