// Before everything else, the host's definitions included: their names are ours, and Metal's headers are not to see them.

#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;
