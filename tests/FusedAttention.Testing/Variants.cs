using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Testing;

/// <summary>Which kernel variants this process can run, from the processor and the runtime's switches and not from the library's own answer.</summary>
internal static class Variants
{
    public static CpuInstructionSet[] All { get; } = [CpuInstructionSet.Scalar, CpuInstructionSet.Vector128, CpuInstructionSet.Avx2, CpuInstructionSet.Avx512];

    public static CpuInstructionSet[] Supported { get; } = [.. All.Where(IsSupported)];

    /// <summary>The name of the variant that must run in this process: told by the parent of a child process, forced by name, or the best.</summary>
    public static string Expected => Environment.GetEnvironmentVariable(ChildProcess.ExpectedVariant)
        ?? (Environment.GetEnvironmentVariable("FUSEDATTENTION_CPU") is { Length: > 0 } named ? named : Best.ToString());

    public static CpuInstructionSet Best => Supported[^1];

    public static bool IsSupported(CpuInstructionSet variant) => variant switch
    {
        CpuInstructionSet.Vector128 => Vector128.IsHardwareAccelerated,
        CpuInstructionSet.Avx2 => Avx2.IsSupported && Fma.IsSupported,
        CpuInstructionSet.Avx512 => Avx512F.IsSupported && Avx512F.VL.IsSupported && Avx512BW.IsSupported && Avx512DQ.IsSupported,
        _ => true,
    };
}
