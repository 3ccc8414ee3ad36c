using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>The reference set again in child processes whose runtime hides instruction sets; each child reports the variant that ran.</summary>
[Slow]
public sealed class InstructionSetMatrixTests(ITestOutputHelper output)
{
    [Fact]
    public void Without_vector_hardware_the_scalar_variant_passes() => RunChild("DOTNET_EnableHWIntrinsic", CpuInstructionSet.Scalar);

    [Fact]
    public void Without_avx2_the_128_bit_variant_passes()
    {
        Assert.SkipUnless(Variants.IsSupported(CpuInstructionSet.Avx2), "This machine has no AVX2 to turn off.");
        RunChild("DOTNET_EnableAVX2", CpuInstructionSet.Vector128);
    }

    [Fact]
    public void Without_avx512_the_avx2_variant_passes()
    {
        Assert.SkipUnless(Variants.IsSupported(CpuInstructionSet.Avx512), "This machine has no AVX-512 to turn off; the tests in this process run the AVX2 variant.");
        RunChild("DOTNET_EnableAVX512", CpuInstructionSet.Avx2);
    }

    /// <summary>Without machine code, and where it is required: what the tests of this process run is one of the two, if the machine has any.</summary>
    [Theory]
    [InlineData("Off", "none: off by FUSEDATTENTION_MACHINE_CODE")]
    [InlineData("Required", "binary16 by vcvtph2ps")]
    public void With_and_without_machine_code_the_set_passes(string machineCode, string said)
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        string? here = VariantTests.MachineCode;
        Assert.SkipUnless(here?.StartsWith("binary16", StringComparison.Ordinal) == true, $"No machine code here: {here}.");
        (int passed, string text) = ChildProcess.RunClasses([("FUSEDATTENTION_MACHINE_CODE", machineCode)], typeof(VariantTests), typeof(ReferenceTests), typeof(RealDataTests));
        Assert.Contains($"machine code: {said}", text, StringComparison.Ordinal);
        output.WriteLine($"{machineCode}: {passed} tests passed.");
        Assert.True(passed > 2 * ReferenceData.Cases.Length, $"Only {passed} tests ran.");
    }

    private void RunChild(string variable, CpuInstructionSet expected)
    {
        int passed = ChildProcess.RunWithout(variable, expected, output, typeof(VariantTests), typeof(ReferenceTests));
        int set = 2 * ReferenceData.Cases.Length;
        Assert.True(passed > set, $"Only {passed} tests ran with {variable}=0; the reference set alone has {set}.");
    }
}

/// <summary>Says to the parent of a child process which variant its tests ran.</summary>
public sealed class VariantTests(ITestOutputHelper output)
{
    /// <summary>What a call with grouped heads of binary16 says of it.</summary>
    public static string? MachineCode => Attention.Explain<float, Half>(new AttentionShape(1, 1, 64, 4, 1, 64)).MachineCode;

    [Fact]
    public void The_variant_that_runs_is_the_expected_one()
    {
        CpuInstructionSet actual = Attention.Explain<float, float>(new AttentionShape(1, 64, 64, 2, 1, 32)).InstructionSet!.Value;
        output.WriteLine($"variant that ran: {actual}");
        output.WriteLine($"machine code: {MachineCode}");
        Assert.Equal(Variants.Expected, actual.ToString());
    }
}
