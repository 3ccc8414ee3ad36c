using Xunit;

namespace FusedAttention.Tests;

public sealed class AlibiSlopesTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(8)]
    [InlineData(16)]
    [InlineData(64)]
    public void A_power_of_two_gives_a_geometric_sequence_that_starts_at_its_ratio(int heads)
    {
        double ratio = Math.Pow(2, -8.0 / heads);
        Assert.Equal(heads, AlibiSlopes.ForHeads(heads).Length);
        for (int h = 0; h < heads; h++) Assert.Equal((float)Math.Pow(ratio, h + 1), AlibiSlopes.ForHeads(heads)[h], 1e-7f);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(6)]
    [InlineData(12)]
    [InlineData(20)]
    [InlineData(71)]
    [InlineData(112)]
    public void Other_counts_take_the_power_below_and_every_other_slope_of_the_one_above(int heads)
    {
        int below = 1;
        while (below * 2 <= heads) below *= 2;
        float[] first = [.. AlibiSlopes.ForHeads(below)];
        float[] second = [.. AlibiSlopes.ForHeads(2 * below).Where((_, i) => i % 2 == 0)];
        Assert.Equal([.. first, .. second[..(heads - below)]], AlibiSlopes.ForHeads(heads).ToArray());
    }

    [Fact]
    public void The_papers_numbers_for_eight_heads()
        => Assert.Equal([1f / 2, 1f / 4, 1f / 8, 1f / 16, 1f / 32, 1f / 64, 1f / 128, 1f / 256], AlibiSlopes.ForHeads(8).ToArray());

    [Theory]
    [InlineData(0)]
    [InlineData(-3)]
    public void No_heads_are_refused(int heads)
    {
        var error = Assert.Throws<ArgumentOutOfRangeException>(() => AlibiSlopes.ForHeads(heads));
        Assert.Equal("heads", error.ParamName);
        Assert.Contains(heads.ToString(), error.Message, StringComparison.Ordinal);
    }
}
