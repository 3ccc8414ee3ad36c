// Atomic integers, relaxed. Lanes run one at a time, so plain operations are atomic.
#pragma once

namespace metal {

enum memory_order { memory_order_relaxed = 0 };

template <typename T>
struct atomic {
    T value;
};
typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;

#define SHIM_ATOMICS(space) \
    template <typename T> inline T atomic_load_explicit(const space atomic<T>* a, memory_order) { return a->value; } \
    template <typename T> inline void atomic_store_explicit(space atomic<T>* a, T x, memory_order) { a->value = x; } \
    template <typename T> inline T atomic_fetch_add_explicit(space atomic<T>* a, T x, memory_order) { const T old = a->value; a->value = old + x; return old; } \
    template <typename T> inline T atomic_fetch_or_explicit(space atomic<T>* a, T x, memory_order) { const T old = a->value; a->value = old | x; return old; } \
    template <typename T> inline T atomic_fetch_max_explicit(space atomic<T>* a, T x, memory_order) { const T old = a->value; a->value = max(old, x); return old; } \
    template <typename T> inline T atomic_fetch_min_explicit(space atomic<T>* a, T x, memory_order) { const T old = a->value; a->value = min(old, x); return old; }
SHIM_ATOMICS(device)
SHIM_ATOMICS(threadgroup)
#undef SHIM_ATOMICS

} // namespace metal
