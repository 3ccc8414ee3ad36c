namespace FusedAttention.Metal.Launching;

/// <summary>A family of kernels: one source file, compiled on its own so that a first call waits for little.</summary>
internal enum KernelFamily
{
    /// <summary>Any dimensions and every feature, one simdgroup a row: <c>plain.metal</c>.</summary>
    Plain,

    /// <summary>Blocks of rows with simdgroup matrices: <c>prefill.metal</c>.</summary>
    Prefill,

    /// <summary>Few rows over keys that are split among threadgroups: <c>decode.metal</c>.</summary>
    Decode,

    /// <summary>Partial results of splits, and <c>MetalAttention.Merge</c>: <c>merge.metal</c>.</summary>
    Merge,

    /// <summary>Appending to a paged cache and copying its blocks: <c>cache.metal</c>.</summary>
    Cache,

    /// <summary>Appending to a paged cache of 8 bits, which quantizes: <c>quantize.metal</c>.</summary>
    Quantize,

    /// <summary>The self-test of the layout of simdgroup matrices: <c>lane_map.metal</c>.</summary>
    LaneMap,
}
