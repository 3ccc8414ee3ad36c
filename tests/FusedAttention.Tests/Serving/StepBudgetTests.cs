using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>How prompts divide a step.</summary>
public sealed class StepBudgetTests
{
    [Theory]
    [InlineData(512, 0.5, new[] { 100_000 }, new[] { 512 })]
    [InlineData(512, 0.5, new[] { 100_000, 100 }, new[] { 412, 100 })]
    [InlineData(512, 0.5, new[] { 100_000, 100_000 }, new[] { 256, 256 })]
    [InlineData(512, 0.5, new[] { 100_000, 100_000, 100_000, 10 }, new[] { 256, 161, 85, 10 })]
    [InlineData(512, 0.5, new[] { 10, 100_000, 100_000 }, new[] { 10, 256, 246 })]
    [InlineData(512, 0.25, new[] { 100_000, 100_000 }, new[] { 128, 384 })]
    [InlineData(512, 1, new[] { 100_000, 100_000, 5 }, new[] { 510, 1, 1 })]
    [InlineData(3, 0.5, new[] { 9, 9, 9, 9 }, new[] { 1, 1, 1, 0 })]
    [InlineData(0, 0.5, new[] { 9, 9 }, new[] { 0, 0 })]
    public void Nobody_takes_more_than_the_share_while_others_want_it(int tokens, double share, int[] wanted, int[] expected)
    {
        var budget = new StepBudget(tokens, wanted.Length, 0, share);
        int[] taken = [.. wanted.Select(want => budget.TakePart(want))];
        for (int i = 0; i < wanted.Length; i++) taken[i] += budget.TakeUpToShare(wanted[i] - taken[i], taken[i]);
        for (int i = 0; i < wanted.Length; i++) taken[i] += budget.Take(wanted[i] - taken[i]);
        if (share < 1) Assert.Equal(expected, taken);
        Assert.Equal(Math.Min(tokens, wanted.Sum()), taken.Sum());
        Assert.Equal(tokens - taken.Sum(), budget.Left);
    }

    [Fact]
    public void Those_that_may_be_admitted_find_something_left()
    {
        var budget = new StepBudget(512, prompts: 1, waiting: 100, 0.5);
        Assert.Equal(256, budget.TakePart(100_000));
        for (int i = 0; i < StepBudget.ExpectedPrompts; i++) Assert.Equal(64, budget.TakePart(1000));
        Assert.Equal(0, budget.Left);
    }
}
