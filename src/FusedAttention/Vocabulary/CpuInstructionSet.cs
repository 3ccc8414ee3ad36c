namespace FusedAttention;

/// <summary>
/// The variants of the CPU kernels. The results of two variants differ in the last bits (they sum in different orders), so a caller
/// who wants the same bits on different machines names the variant both have.
/// </summary>
public enum CpuInstructionSet
{
    /// <summary>The best variant that this machine supports; the environment variable <c>FUSEDATTENTION_CPU</c> (a name of this enum) overrides it.</summary>
    Auto = 0,

    /// <summary>No vector instructions.</summary>
    Scalar = 1,

    /// <summary>128-bit vectors: Arm NEON, x86 SSE.</summary>
    Vector128 = 2,

    /// <summary>256-bit vectors with fused multiply-add: x86 AVX2 and FMA.</summary>
    Avx2 = 3,

    /// <summary>512-bit vectors: x86 AVX-512 (F, BW, DQ, VL).</summary>
    Avx512 = 4,
}
