using FusedAttention.Checking.Measurement;
using FusedAttention.Comparison.Reporting;
using Xunit;

namespace FusedAttention.Comparison.Tests;

public class ChartScaleTests
{
    [Theory]
    [InlineData(0.7)]
    [InlineData(1)]
    [InlineData(9.9)]
    [InlineData(37)]
    [InlineData(248.3)]
    [InlineData(1000)]
    public void Linear_scales_hold_the_largest_value_in_few_round_steps(double max)
    {
        ChartScale scale = ChartScale.FromZero(max, 200, 0);
        Assert.Equal(200, scale.Position(0), 9);
        Assert.Equal(0, scale.Position(scale.Ticks[^1]), 9);
        Assert.InRange(scale.Ticks[^1], max * 0.999999, max * 1.7);
        Assert.InRange(scale.Ticks.Count, 4, 7);
        Assert.Equal(0, scale.Ticks[0]);
    }

    [Fact]
    public void Logarithmic_scales_put_equal_factors_at_equal_distances()
    {
        ChartScale scale = ChartScale.Logarithmic(512, 8192, 0, 400, [256, 512, 2048, 8192]);
        Assert.Equal([0, 200, 400], new[] { 512.0, 2048, 8192 }.Select(scale.Position));
        Assert.Equal([512, 2048, 8192], scale.Ticks);
    }

    [Fact]
    public void A_single_value_stands_in_the_middle()
        => Assert.Equal(50, ChartScale.Logarithmic(4096, 4096, 0, 100, [4096]).Position(4096), 9);

    [Theory]
    [InlineData("AMD EPYC 9654 96-Core Processor", "amd-epyc-9654-96-core-processor")]
    [InlineData("Intel(R) Xeon(R) Platinum 8480+", "intel-r-xeon-r-platinum-8480")]
    [InlineData("..", "unknown")]
    public void Folders_are_named_by_the_processor(string processor, string folder) => Assert.Equal(folder, Processor.Slug(processor));
}
