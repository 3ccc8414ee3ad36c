// The kernels for a GPU with 32 lanes that this clang knows (AMD's gfx1030), to count registers and instructions. Nothing of it ever runs: what follows are the hardware's own instructions where it has them, and an
// opaque one each where it has none. These headers take the places of those of the same names in include/shim.
#pragma once

#define SHIM_SITE int site_ = 0
#define SHIM_HERE site_

inline uint proxy_uniform(uint x) { return __builtin_amdgcn_readfirstlane(x); }
inline uint proxy_lane() { return __builtin_amdgcn_workitem_id_x() & 31u; }
