#pragma once

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };

inline void threadgroup_barrier(mem_flags) {
    __builtin_amdgcn_fence(__ATOMIC_SEQ_CST, "workgroup");
    __builtin_amdgcn_s_barrier();
}

// What it is to a compiler that orders no memory by it: a place that no instruction is moved across.
inline void simdgroup_barrier(mem_flags) { __builtin_amdgcn_sched_barrier(0); }

} // namespace metal
