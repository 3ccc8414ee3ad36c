// What a type is made of, and vectors made from parts: float4(half4), uint2(a, b), float4(xy, z, w).
#pragma once

namespace shim {

template <typename T>
struct shape {
    typedef T element;
    static constexpr __constant int length = 1;
};

#define SHIM_SHAPE(type, n) \
    template <> struct shape<type##n> { \
        typedef type element; \
        static constexpr __constant int length = n; \
    };
#define SHIM_SHAPES(type) SHIM_SHAPE(type, 2) SHIM_SHAPE(type, 3) SHIM_SHAPE(type, 4)
SHIM_SHAPES(char)
SHIM_SHAPES(uchar)
SHIM_SHAPES(short)
SHIM_SHAPES(ushort)
SHIM_SHAPES(int)
SHIM_SHAPES(uint)
SHIM_SHAPES(long)
SHIM_SHAPES(ulong)
SHIM_SHAPES(half)
SHIM_SHAPES(float)
#undef SHIM_SHAPES
#undef SHIM_SHAPE

template <typename V, typename A>
inline void append(thread V& v, thread int& at, A a) {
    typedef typename shape<V>::element element;
    if constexpr (shape<A>::length == 1) v[at++] = (element)a;
    else for (int i = 0; i < shape<A>::length; i++) v[at++] = (element)a[i];
}

template <typename V, typename A>
inline V construct(A a) {
    typedef typename shape<V>::element element;
    if constexpr (shape<A>::length == 1) return (V)((element)a);
    else {
        static_assert(shape<A>::length == shape<V>::length, "a vector is made from one of the same length");
        return __builtin_convertvector(a, V);
    }
}

// Packed ones and those of bfloat convert by themselves.
template <typename V> inline V construct(packed_float3 a) { return construct<V>((float3)a); }
template <typename V> inline V construct(packed_half3 a) { return construct<V>((half3)a); }
template <typename V> inline V construct(bfloat a) { return construct<V>((float)a); }
template <typename V> inline V construct(bfloat2 a) { return construct<V>((float2)a); }
template <typename V> inline V construct(bfloat4 a) { return construct<V>((float4)a); }

template <typename V, typename A, typename B, typename... Rest>
inline V construct(A a, B b, Rest... rest) {
    typedef typename shape<V>::element element;
    if constexpr (shape<V>::length == 2) {
        static_assert(sizeof...(Rest) == 0, "two elements");
        return (V)((element)a, (element)b);
    } else {
        V v;
        int at = 0;
        append(v, at, a);
        append(v, at, b);
        (append(v, at, rest), ...);
        static_assert(shape<A>::length + shape<B>::length + (0 + ... + shape<Rest>::length) == shape<V>::length, "as many elements as the vector has");
        return v;
    }
}

} // namespace shim
