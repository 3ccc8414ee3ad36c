using Xunit;

namespace FusedAttention.Tests;

/// <summary>The reference set and the sweep again in child processes whose runtime hides instruction sets; each child reports the variant that ran.</summary>
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

    [Fact]
    public void The_environment_variable_names_the_variant()
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        (int passed, string text) = ChildProcess.RunClasses(
            [("FUSEDATTENTION_CPU", "Scalar"), (InstructionSetTests.ExpectedVariable, "Scalar")], typeof(InstructionSetTests));
        Assert.Contains("variant that ran: Scalar", text, StringComparison.Ordinal);
        Assert.True(passed > 3);
    }

    private void RunChild(string variable, CpuInstructionSet expected)
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        (int passed, string text) = ChildProcess.RunClasses(
            [(variable, "0"), (InstructionSetTests.ExpectedVariable, expected.ToString())],
            typeof(ReferenceTests), typeof(OracleSweepTests), typeof(InstructionSetTests), typeof(EdgeCaseTests));
        Assert.Contains($"variant that ran: {expected}", text, StringComparison.Ordinal);
        int expectedTests = (2 * ReferenceData.Cases.Length) + OracleSweepTests.Seeds().Count;
        output.WriteLine($"{variable}=0: {passed} tests passed on {expected}.");
        Assert.True(passed > expectedTests, $"Only {passed} tests ran with {variable}=0; the reference set and the sweep alone are {expectedTests}.");
    }
}
