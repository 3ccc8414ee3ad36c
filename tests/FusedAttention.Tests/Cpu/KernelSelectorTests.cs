using FusedAttention.Cpu;
using FusedAttention.Cpu.Planning;
using Xunit;

namespace FusedAttention.Tests.Cpu;

/// <summary>Which kernels run: the named ones or none; the best by default; what the environment says, or an exception that names it.</summary>
public sealed class KernelSelectorTests
{
    private const string Variable = "FUSEDATTENTION_CPU";

    public static TheoryData<CpuInstructionSet> All => [.. Variants.All];

    [Theory]
    [MemberData(nameof(All))]
    public void A_named_instruction_set_is_taken_or_refused(CpuInstructionSet variant)
    {
        Assert.Equal(Variants.IsSupported(variant), KernelSelector.IsSupported(variant));
        if (Variants.IsSupported(variant))
        {
            Assert.Equal(variant, KernelSelector.Select(variant).InstructionSet);
            return;
        }

        var refused = Assert.Throws<PlatformNotSupportedException>(() => KernelSelector.Select(variant));
        Assert.Contains($"{variant}", refused.Message, StringComparison.Ordinal);
        Assert.Contains($"{Variants.Best}", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(99)]
    public void A_number_that_is_no_instruction_set_is_refused(int number)
    {
        Assert.False(KernelSelector.IsSupported((CpuInstructionSet)number));
        var refused = Assert.Throws<ArgumentException>(() => KernelSelector.Select((CpuInstructionSet)number));
        Assert.Contains($"{number}", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>In a child process the environment names a variant; here nothing does, and it is the best.</summary>
    [Fact]
    public void By_default_it_is_the_best_or_what_the_environment_says()
    {
        if (Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named && !Enum.TryParse(named, ignoreCase: true, out CpuInstructionSet _))
        {
            var refused = Assert.Throws<PlatformNotSupportedException>(() => KernelSelector.Select(CpuInstructionSet.Auto));
            Assert.Contains($"{Variable} is '{named}'", refused.Message, StringComparison.Ordinal);
            Assert.Contains("Auto, Scalar, Vector128, Avx2, Avx512", refused.Message, StringComparison.Ordinal);
            return;
        }

        Assert.Equal(Variants.Expected, $"{KernelSelector.Select(CpuInstructionSet.Auto).InstructionSet}", ignoreCase: true);
    }

    [Slow]
    [Theory]
    [InlineData("scalar")]
    [InlineData("AVX-2")]
    public void Names_in_the_environment_are_known_in_any_case_or_refused(string named)
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        (int passed, _) = ChildProcess.RunClasses([(Variable, named)], typeof(KernelSelectorTests));
        Assert.True(passed > 3);
    }

    /// <summary>The layers above trust these: vectors in pairs divide a tile of keys, and a strip of rows has whole register tiles.</summary>
    [Theory]
    [MemberData(nameof(All))]
    public void Tiles_fit_the_kernels(CpuInstructionSet variant)
    {
        Assert.SkipUnless(Variants.IsSupported(variant), $"{variant} is not available here.");
        CpuKernels kernels = KernelSelector.Select(variant);
        Assert.Equal(variant switch { CpuInstructionSet.Scalar => 1, CpuInstructionSet.Vector128 => 4, CpuInstructionSet.Avx2 => 8, _ => 16 }, kernels.VectorWidth);
        PrefillRows rows = kernels.PrefillRows(new() { KeyDim = 64, ValueDim = 64 });
        Assert.InRange(rows.Tile, 1, PrefillTiles.StripRows);
        Assert.InRange(rows.Tile, 1, rows.Least);
        Assert.Equal(0, PrefillTiles.Keys % (2 * kernels.VectorWidth));
        Assert.Equal(0, DecodeTiles.Keys % (2 * kernels.VectorWidth));
        Assert.Equal(0, PrefillTiles.LongKeys % PrefillTiles.Keys);
        Assert.True(DecodeTiles.ScoreStride >= DecodeTiles.Keys + DecodeTiles.MaxStep);
    }
}
