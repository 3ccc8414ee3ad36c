#pragma once

namespace metal {

inline float proxy_shuffle(float x, uint lane) { return __builtin_astype(__builtin_amdgcn_ds_bpermute((int)(lane * 4u), __builtin_astype(x, int)), float); }
inline float simd_shuffle(float x, ushort lane) { return proxy_shuffle(x, lane); }
inline uint2 simd_shuffle(uint2 x, ushort lane) {
    return (uint2)((uint)__builtin_amdgcn_ds_bpermute((int)(lane * 4u), (int)x.x), (uint)__builtin_amdgcn_ds_bpermute((int)(lane * 4u), (int)x.y));
}

// The mask is known when compiling wherever the kernels ask, and takes no register of a lane.
inline float simd_shuffle_xor(float x, ushort mask) {
    float result;
    __asm__("simd_shuffle_xor %0, %1, %2" : "=v"(result) : "v"(x), "s"((uint)mask));
    return result;
}
inline float4 simd_shuffle_xor(float4 x, ushort mask) {
    return (float4)(simd_shuffle_xor(x.x, mask), simd_shuffle_xor(x.y, mask), simd_shuffle_xor(x.z, mask), simd_shuffle_xor(x.w, mask));
}

// One instruction on the target.
#define PROXY_REDUCTION(name, type) \
    inline type name(type x) { \
        type result; \
        __asm__(#name " %0, %1" : "=v"(result) : "v"(x)); \
        return result; \
    }
PROXY_REDUCTION(simd_sum, float)
PROXY_REDUCTION(simd_max, float)
PROXY_REDUCTION(simd_max, int)
PROXY_REDUCTION(simd_min, int)
#undef PROXY_REDUCTION
inline bool simd_any(bool x) { return __builtin_amdgcn_ballot_w32(x) != 0; }

} // namespace metal
