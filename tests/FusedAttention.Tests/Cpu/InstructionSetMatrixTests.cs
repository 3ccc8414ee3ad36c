using Xunit;

namespace FusedAttention.Tests;

/// <summary>The sweep and the edge cases again in child processes whose runtime hides instruction sets; each child reports the variant that ran.</summary>
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

    [Fact]
    public void The_environment_variable_names_the_variant()
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        (int passed, string text) = ChildProcess.RunClasses(
            [("FUSEDATTENTION_CPU", "Scalar"), (ChildProcess.ExpectedVariant, "Scalar")], typeof(InstructionSetTests));
        Assert.Contains("variant that ran: Scalar", text, StringComparison.Ordinal);
        Assert.True(passed > 3);
    }

    /// <summary>On a machine with few processors 8 threads are never used; a runtime that is told of 8 uses them.</summary>
    [Fact]
    public void Eight_processors_give_the_same_promises()
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        (int passed, _) = ChildProcess.RunClasses(
            [("DOTNET_PROCESSOR_COUNT", "8")], typeof(BitIdentityTests), typeof(ConcurrencyTests), typeof(AllocationTests), typeof(CancellationTests), typeof(MergeExecutionTests));
        output.WriteLine($"DOTNET_PROCESSOR_COUNT=8: {passed} tests passed.");
        Assert.True(passed > 7 * BitIdentityTests.ChildCases, $"Only {passed} tests ran.");
    }

    private void RunChild(string variable, CpuInstructionSet expected)
    {
        int passed = ChildProcess.RunWithout(variable, expected, output, typeof(OracleSweepTests), typeof(InstructionSetTests), typeof(EdgeCaseTests));
        int sweep = OracleSweepTests.FirstSeeds().Count + OracleSweepTests.OtherSeeds().Count;
        Assert.True(passed > sweep, $"Only {passed} tests ran with {variable}=0; the sweep alone has {sweep}.");
    }
}
