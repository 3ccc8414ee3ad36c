using FusedAttention.Cpu.MachineCode;
using Xunit;

namespace FusedAttention.Tests.Cpu;

/// <summary>The suites again in child processes that may use no machine code, and in ones that must.</summary>
[Slow]
public sealed class MachineCodeMatrixTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("Off")]
    [InlineData("Required")]
    public void The_promises_hold_with_and_without(string machineCode)
    {
        Assert.SkipWhen(ChildProcess.IsChild, "Children start no children.");
        Assert.SkipUnless(Variants.IsSupported(CpuInstructionSet.Avx2) && CodeHost.Current is { IsAvailable: true, Features.HasF16C: true }, $"No machine code here: {CodeHost.Current.State}.");
        (int passed, string text) = ChildProcess.RunClasses(
            [("FUSEDATTENTION_MACHINE_CODE", machineCode)],
            typeof(OracleSweepTests), typeof(EdgeCaseTests), typeof(GuardPageTests), typeof(HiddenKeysTests), typeof(BitIdentityTests), typeof(RowInvarianceTests), typeof(AllocationTests),
            typeof(CancellationTests), typeof(ConcurrencyTests), typeof(MachineCodeUseTests));
        output.WriteLine($"{machineCode}: {passed} tests passed.");
        Assert.Contains(machineCode is "Off" ? "machine code: none: off by FUSEDATTENTION_MACHINE_CODE" : "machine code: binary16 by vcvtph2ps", text, StringComparison.Ordinal);
        Assert.True(passed > OracleSweepTests.FirstSeeds().Count + OracleSweepTests.OtherSeeds().Count, $"Only {passed} tests ran.");
    }
}

/// <summary>Says what runs, for the parent of a child process to see.</summary>
public sealed class MachineCodeUseTests(ITestOutputHelper output)
{
    [Fact]
    public void The_environment_decides_what_auto_means()
    {
        string? said = Attention.Explain<float, Half>(new(1, 1, 64, 4, 1, 64)).MachineCode;
        output.WriteLine($"machine code: {said}");
        if (said is null) return;
        bool off = string.Equals(Environment.GetEnvironmentVariable("FUSEDATTENTION_MACHINE_CODE"), "Off", StringComparison.OrdinalIgnoreCase);
        Assert.Equal(off, said.StartsWith("none: off", StringComparison.Ordinal));
    }
}
