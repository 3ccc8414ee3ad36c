using FusedAttention.Cpu;
using Xunit;

namespace FusedAttention.Tests.Cpu;

/// <summary>What a native program that was compiled without an instruction set is told, for processors that it may run on.</summary>
public sealed class AheadOfTimeTests
{
    private const int Avx2 = 1 << 5, Avx512 = (1 << 16) | (1 << 17) | (1 << 30) | (1 << 31), System = (1 << 27) | (1 << 28) | (1 << 12);

    [Fact]
    public void A_program_hears_of_the_widest_vectors_that_it_lacks()
    {
        Assert.Contains("without AVX-512", Told(System, Avx2 | Avx512, CpuInstructionSet.Vector128), StringComparison.Ordinal);
        Assert.Contains("without AVX-512", Told(System, Avx2 | Avx512, CpuInstructionSet.Avx2), StringComparison.Ordinal);
        Assert.Contains("without AVX2", Told(System, Avx2, CpuInstructionSet.Vector128), StringComparison.Ordinal);
    }

    [Fact]
    public void A_program_that_has_them_hears_nothing()
    {
        Assert.Null(Told(System, Avx2 | Avx512, CpuInstructionSet.Avx512));
        Assert.Null(Told(System, Avx2, CpuInstructionSet.Avx2));
        Assert.Null(Told(System, 0, CpuInstructionSet.Vector128));
        Assert.Null(Told(0, Avx2, CpuInstructionSet.Vector128)); // the system does not keep the registers
        Assert.Null(Told(System, Avx2 | (Avx512 & ~(1 << 31)), CpuInstructionSet.Avx2)); // a part of AVX-512 is no AVX-512
    }

    [Fact]
    public void Nothing_is_said_where_kernels_are_compiled_when_they_run() => Assert.Null(AheadOfTime.Warning);

    private static string? Told(int basic, int extended, CpuInstructionSet compiled) => AheadOfTime.LackOf(
        set => set <= compiled,
        (leaf, _) => leaf switch { 0 => (7, 0, 0, 0), 1 => (0, 0, basic, 0), 7 => (0, extended, 0, 0), _ => default });
}
