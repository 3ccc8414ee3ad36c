using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Cpu;

/// <summary>
/// What a program that was compiled ahead of time has locked itself out of. Without <c>IlcInstructionSet</c> native code is for the oldest processors: no AVX, so that kernels run at a quarter of what the machine can do, and nothing
/// else would tell.
/// </summary>
internal static class AheadOfTime
{
    private static readonly Lazy<string?> Lack = new(static () => RuntimeFeature.IsDynamicCodeCompiled || !X86Base.IsSupported
        ? null
        : LackOf(KernelSelector.IsSupported, static (leaf, part) => X86Base.CpuId(leaf, part)));

    /// <summary>In words, for explanations; null if there is nothing to say.</summary>
    public static string? Warning => Lack.Value;

    /// <summary>The vectors that the processor has and the program was compiled without.</summary>
    /// <param name="isCompiled">Whether the program has an instruction set.</param>
    /// <param name="cpuid">Asks the processor for a leaf and a part of it.</param>
    public static string? LackOf(Func<CpuInstructionSet, bool> isCompiled, Func<int, int, (int Eax, int Ebx, int Ecx, int Edx)> cpuid)
    {
        int leaves = cpuid(0, 0).Eax;
        if (leaves < 7) return null;
        int basic = cpuid(1, 0).Ecx, extended = cpuid(7, 0).Ebx;

        // The system keeps such registers (OSXSAVE), and the processor has AVX, FMA and AVX2; then the parts F, DQ, BW and VL of AVX-512.
        bool hasAvx2 = Has(basic, 27) && Has(basic, 28) && Has(basic, 12) && Has(extended, 5);
        bool hasAvx512 = hasAvx2 && Has(extended, 16) && Has(extended, 17) && Has(extended, 30) && Has(extended, 31);
        if (hasAvx512 && !isCompiled(CpuInstructionSet.Avx512)) return Say("AVX-512", "x86-64-v4");
        if (hasAvx2 && !isCompiled(CpuInstructionSet.Avx2)) return Say("AVX2", "x86-64-v3");
        return null;
    }

    private static string Say(string name, string level) => $"this program was compiled ahead of time without {name}, which the processor has: publish it with <IlcInstructionSet>{level}</IlcInstructionSet>";

    private static bool Has(int register, int bit) => ((register >> bit) & 1) != 0;
}
