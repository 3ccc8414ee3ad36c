using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>Thousands of random steps with arrivals, cancellations, failing steps and a pool too small for all: every request ends with the right text, and every block comes back.</summary>
public sealed class SchedulerPropertyTests(ITestOutputHelper output)
{
    private const int Steps = 6000;

    public static TheoryData<int, int, int, bool, bool> Pools() => new()
    {
        // block size, blocks, tokens a step, shared prefixes, another user of the pool
        { 1, 150, 24, true, false },
        { 4, 30, 16, true, false },
        { 4, 30, 16, false, false },
        { 4, 40, 7, true, true },
        { 16, 9, 64, true, false },
        { 8, 16, 100, true, false },
    };

    [Slow]
    [Theory]
    [MemberData(nameof(Pools))]
    public void Every_request_ends_with_the_right_text(int blockSize, int blocks, int tokensPerStep, bool share, bool otherUser)
    {
        using var simulation = new TrafficSimulation(new() { BlockSize = blockSize, Blocks = blocks, TokensPerStep = tokensPerStep, Shares = share, HasOtherUser = otherUser });
        Run(simulation, Steps);
        Assert.True(simulation.Finished > Steps / 50);
        Assert.True(simulation.Ended[FinishReason.Cancelled] > 50);
        Assert.True(simulation.Model.Scheduler.Preemptions > 50, "The pool was never full.");
        if (share) Assert.True(simulation.Model.Scheduler.SharedTokens > 1000);
    }

    [Slow]
    [Theory]
    [InlineData(1, 150, 24, 0)]
    [InlineData(4, 30, 16, 0)]
    [InlineData(8, 20, 100, 0)]
    [InlineData(4, 30, 16, 9)]
    public void Every_request_ends_with_the_right_text_whatever_it_wants(int blockSize, int blocks, int tokensPerStep, int window)
    {
        using var simulation = new TrafficSimulation(new() { Seed = 4, BlockSize = blockSize, Blocks = blocks, TokensPerStep = tokensPerStep, Window = window, IsRich = true });
        Run(simulation, Steps);
        foreach (int count in simulation.Ended.Values) Assert.True(count > 30);
        Assert.True(simulation.Forks > 50);
        Assert.InRange(simulation.Model.Scheduler.AcceptedDraftTokens, 500, simulation.Model.Scheduler.DraftTokens - 500);
        Assert.Equal(6, simulation.MostOvertaken);
    }

    [Slow]
    [Theory]
    [InlineData(4, 30, 16, true)]
    [InlineData(1, 120, 24, true)]
    [InlineData(8, 16, 100, false)]
    public void Every_request_ends_with_the_right_text_though_somebody_meddles(int blockSize, int blocks, int tokensPerStep, bool share)
    {
        using var simulation = new TrafficSimulation(new() { Seed = 3, BlockSize = blockSize, Blocks = blocks, TokensPerStep = tokensPerStep, Shares = share, Meddles = true });
        Run(simulation, Steps / 2);
        Assert.True(simulation.Finished > Steps / 100);
        Assert.True(simulation.Refused > 50, $"{simulation.Refused} steps refused");
    }

    [Slow]
    [Fact]
    public void The_same_calls_give_the_same_steps()
    {
        var traffic = new Traffic { Seed = 2, BlockSize = 4, Blocks = 30, TokensPerStep = 16, IsRich = true };
        using var first = new TrafficSimulation(traffic);
        using var second = new TrafficSimulation(traffic);
        for (int step = 0; step < 2000; step++)
        {
            first.Step();
            second.Step();
            Assert.Equal(first.Trace, second.Trace);
        }
    }

    private void Run(TrafficSimulation simulation, int steps)
    {
        for (int step = 0; step < steps; step++) simulation.Step();
        simulation.Drain();
        output.WriteLine(simulation.ToString());
    }
}
