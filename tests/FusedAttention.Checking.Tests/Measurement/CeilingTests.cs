using FusedAttention.Checking.Measurement;
using Xunit;

namespace FusedAttention.Checking.Tests;

public class CeilingTests
{
    [Theory]
    [InlineData(CpuInstructionSet.Scalar)]
    [InlineData(CpuInstructionSet.Vector128)]
    [InlineData(CpuInstructionSet.Avx2)]
    [InlineData(CpuInstructionSet.Avx512)]
    public void Multiply_adds_have_a_rate_that_silicon_can_have(CpuInstructionSet set)
    {
        if (!MultiplyAddPeak.IsSupported(set)) Assert.Skip($"This machine has no {set}.");

        // From a tenth of what a slow core does to twice what a fast one can: loops that the compiler removed, or that run in software, fall outside.
        double lanes = set switch { CpuInstructionSet.Scalar => 1, CpuInstructionSet.Vector128 => 4, CpuInstructionSet.Avx2 => 8, _ => 16 };
        Assert.InRange(MultiplyAddPeak.Measure(set, threads: 1, TimeSpan.FromMilliseconds(1)), 0.2 * lanes, 60 * lanes);
    }

    [Fact]
    public void Every_thread_of_a_trial_runs_once()
    {
        int[] runs = new int[3];
        double seconds = ConcurrentTrial.Run(3, thread =>
        {
            Interlocked.Increment(ref runs[thread]);
            Thread.Sleep(20);
        });
        Assert.Equal([1, 1, 1], runs);
        Assert.InRange(seconds, 0.015, 10);
    }
}
