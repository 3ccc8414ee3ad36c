using System.Runtime.Intrinsics;
using FusedAttention.Cpu.Numerics;
using Xunit;

namespace FusedAttention.Tests.Cpu.Numerics;

/// <summary>A test that is generic over the vectors of an instruction set.</summary>
internal interface ISimdTest
{
    void Run<TS, TV>()
        where TS : struct, ISimd<TV>
        where TV : unmanaged;
}

/// <summary>Runs a test on the vectors of one instruction set, or skips it.</summary>
internal static class SimdVariant
{
    public static TheoryData<CpuInstructionSet> All => [.. Variants.All];

    public static void Run(CpuInstructionSet variant, ISimdTest test)
    {
        Assert.SkipUnless(Variants.IsSupported(variant), $"{variant} is not available here.");
        switch (variant)
        {
            case CpuInstructionSet.Scalar: test.Run<ScalarSimd, float>(); break;
            case CpuInstructionSet.Vector128: test.Run<Vector128Simd, Vector128<float>>(); break;
            case CpuInstructionSet.Avx2: test.Run<Avx2Simd, Vector256<float>>(); break;
            case CpuInstructionSet.Avx512: test.Run<Avx512Simd, Vector512<float>>(); break;
            default: throw new ArgumentOutOfRangeException(nameof(variant), variant, null);
        }
    }
}
