using System.Diagnostics;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>Traffic of every kind for as long as one likes, out of three pools that live all the time.</summary>
public sealed class SoakTests(ITestOutputHelper output)
{
    private const int Samples = 10;
    private const long Tolerance = 1 << 20;

    [Fact]
    public void Texts_stay_right_and_memory_stays_flat()
    {
        Assert.SkipUnless(int.TryParse(Environment.GetEnvironmentVariable("FUSEDATTENTION_SOAK"), out int seconds), "Set FUSEDATTENTION_SOAK to a number of seconds to run it.");
        TrafficSimulation[] pools =
        [
            new(new() { Seed = 11, BlockSize = 4, Blocks = 30, TokensPerStep = 16, IsRich = true }),
            new(new() { Seed = 12, BlockSize = 1, Blocks = 150, TokensPerStep = 24, IsRich = true, Meddles = true, HasOtherUser = true }),
            new(new() { Seed = 13, BlockSize = 8, Blocks = 24, TokensPerStep = 60, IsRich = true, Window = 13 }),
        ];
        List<long> memory = [];
        long start = Stopwatch.GetTimestamp();
        for (int sample = 0; sample <= Samples; sample++)
        {
            while (Stopwatch.GetElapsedTime(start).TotalSeconds < (double)seconds * sample / Samples)
            {
                foreach (TrafficSimulation pool in pools)
                    for (int step = 0; step < 100; step++) pool.Step();
            }

            // The first is of nothing yet.
            if (sample > 0) memory.Add(GC.GetTotalMemory(forceFullCollection: true));
        }

        output.WriteLine($"memory in KB: {string.Join(' ', memory.Select(static bytes => bytes >> 10))}");
        foreach (TrafficSimulation pool in pools)
        {
            pool.Drain();
            output.WriteLine(pool.ToString());
            pool.Dispose();
        }

        Assert.True(memory[^1] - memory[0] < Tolerance, $"Memory grew from {memory[0]} to {memory[^1]} bytes.");
    }
}
