// Functions across the 32 lanes of a simdgroup. All lanes must take part. Reductions are butterflies, so that all lanes get the same bits.
#pragma once

namespace shim {

template <typename T> struct sum_of { static T apply(T a, T b) { return a + b; } };
template <typename T> struct product_of { static T apply(T a, T b) { return a * b; } };
template <typename T> struct larger_of { static T apply(T a, T b) { return metal::max(a, b); } };
template <typename T> struct smaller_of { static T apply(T a, T b) { return metal::min(a, b); } };
template <typename T> struct and_of { static T apply(T a, T b) { return a & b; } };
template <typename T> struct or_of { static T apply(T a, T b) { return a | b; } };
template <typename T> struct xor_of { static T apply(T a, T b) { return a ^ b; } };

template <typename T>
inline const ulong* exchange(T x, SHIM_SITE) {
    const words w = to_words(x);
    return metal_emulator_exchange(w.low, w.high, SHIM_HERE);
}

template <typename T>
inline T lane_of(const ulong* slots, uint lane) { return from_words<T>(slots + 2u * lane); }

template <typename T, template <typename> class Operation>
inline T reduced(T x, SHIM_SITE) {
    const ulong* slots = exchange(x, SHIM_HERE);
    T values[32];
    for (uint i = 0; i < 32u; i++) values[i] = lane_of<T>(slots, i);
    for (uint width = 16; width > 0u; width >>= 1)
        for (uint i = 0; i < width; i++) values[i] = Operation<T>::apply(values[i], values[i + width]);
    return values[0];
}

template <typename T>
inline T of_lane(T x, uint lane, SHIM_SITE) {
    const ulong* slots = exchange(x, SHIM_HERE);
    if (lane >= 32u) metal_emulator_fail("a lane index above 31", SHIM_HERE);
    return lane_of<T>(slots, lane & 31u);
}

} // namespace shim

namespace metal {

#define SHIM_REDUCTION(name, operation) \
    template <typename T> inline T name(T x, SHIM_SITE) { return shim::reduced<T, shim::operation>(x, SHIM_HERE); }
SHIM_REDUCTION(simd_sum, sum_of)
SHIM_REDUCTION(simd_product, product_of)
SHIM_REDUCTION(simd_max, larger_of)
SHIM_REDUCTION(simd_min, smaller_of)
SHIM_REDUCTION(simd_and, and_of)
SHIM_REDUCTION(simd_or, or_of)
SHIM_REDUCTION(simd_xor, xor_of)
#undef SHIM_REDUCTION

template <typename T> inline T simd_shuffle(T x, ushort lane, SHIM_SITE) { return shim::of_lane(x, lane, SHIM_HERE); }
template <typename T> inline T simd_broadcast(T x, ushort lane, SHIM_SITE) { return shim::of_lane(x, lane, SHIM_HERE); }
template <typename T> inline T simd_broadcast_first(T x, SHIM_SITE) { return shim::of_lane(x, 0, SHIM_HERE); }
template <typename T> inline T simd_shuffle_xor(T x, ushort mask, SHIM_SITE) { return shim::of_lane(x, metal_emulator_lane() ^ mask, SHIM_HERE); }

// Lanes that would look beyond the end keep their own value.
template <typename T>
inline T simd_shuffle_down(T x, ushort delta, SHIM_SITE) {
    const uint lane = metal_emulator_lane();
    return shim::of_lane(x, lane + delta < 32u ? lane + delta : lane, SHIM_HERE);
}
template <typename T>
inline T simd_shuffle_up(T x, ushort delta, SHIM_SITE) {
    const uint lane = metal_emulator_lane();
    return shim::of_lane(x, lane >= delta ? lane - delta : lane, SHIM_HERE);
}
template <typename T>
inline T simd_shuffle_rotate_down(T x, ushort delta, SHIM_SITE) { return shim::of_lane(x, (metal_emulator_lane() + delta) & 31u, SHIM_HERE); }
template <typename T>
inline T simd_shuffle_rotate_up(T x, ushort delta, SHIM_SITE) { return shim::of_lane(x, (metal_emulator_lane() - delta) & 31u, SHIM_HERE); }

template <typename T>
inline T simd_prefix_inclusive_sum(T x, SHIM_SITE) {
    const ulong* slots = shim::exchange(x, SHIM_HERE);
    T sum = shim::lane_of<T>(slots, 0);
    for (uint i = 1; i <= metal_emulator_lane(); i++) sum = sum + shim::lane_of<T>(slots, i);
    return sum;
}
template <typename T>
inline T simd_prefix_exclusive_sum(T x, SHIM_SITE) {
    const ulong* slots = shim::exchange(x, SHIM_HERE);
    T sum = (T)0;
    for (uint i = 0; i < metal_emulator_lane(); i++) sum = sum + shim::lane_of<T>(slots, i);
    return sum;
}

struct simd_vote {
    typedef ulong vote_t;
    vote_t bits;
    simd_vote(vote_t b) : bits(b) {}
    explicit operator vote_t() const { return bits; }
    bool all() const { return bits == 0xFFFFFFFFul; }
    bool any() const { return bits != 0; }
};

inline simd_vote simd_ballot(bool x, SHIM_SITE) {
    const ulong* slots = shim::exchange((uint)x, SHIM_HERE);
    ulong bits = 0;
    for (uint i = 0; i < 32u; i++) bits |= (ulong)(shim::lane_of<uint>(slots, i) != 0u) << i;
    return simd_vote(bits);
}
inline bool simd_all(bool x, SHIM_SITE) { return simd_ballot(x, SHIM_HERE).all(); }
inline bool simd_any(bool x, SHIM_SITE) { return simd_ballot(x, SHIM_HERE).any(); }
inline bool simd_is_first() { return metal_emulator_lane() == 0u; }

// Quads: lanes 4n to 4n + 3. The whole simdgroup takes part here too.
template <typename T>
inline T quad_shuffle_xor(T x, ushort mask, SHIM_SITE) { return shim::of_lane(x, metal_emulator_lane() ^ (mask & 3u), SHIM_HERE); }
template <typename T>
inline T quad_broadcast(T x, ushort lane, SHIM_SITE) { return shim::of_lane(x, (metal_emulator_lane() & ~3u) | (lane & 3u), SHIM_HERE); }
template <typename T>
inline T quad_sum(T x, SHIM_SITE) {
    const T pair = x + quad_shuffle_xor(x, 1, SHIM_HERE);
    return pair + quad_shuffle_xor(pair, 2, SHIM_HERE);
}
template <typename T>
inline T quad_max(T x, SHIM_SITE) {
    const T pair = max(x, quad_shuffle_xor(x, 1, SHIM_HERE));
    return max(pair, quad_shuffle_xor(pair, 2, SHIM_HERE));
}

} // namespace metal
