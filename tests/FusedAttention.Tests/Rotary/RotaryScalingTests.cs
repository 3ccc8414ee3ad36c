using Xunit;

namespace FusedAttention.Tests.Rotary;

/// <summary>How fast pairs turn, against the formulas of the papers, written otherwise.</summary>
public sealed class RotaryScalingTests
{
    [Fact]
    public void Without_scaling_pairs_turn_by_powers_of_the_base()
    {
        ReadOnlySpan<double> frequencies = new RotaryEmbedding(new() { HeadDim = 8 }).GetFrequencies();
        Assert.Equal(4, frequencies.Length);
        for (int i = 0; i < 4; i++) Assert.Equal(new[] { 1, 0.1, 0.01, 0.001 }[i], frequencies[i], 1e-15);
        Assert.Equal(1 / Math.Sqrt(500_000), new RotaryEmbedding(new() { HeadDim = 64, RotaryDim = 4, Base = 500_000 }).GetFrequencies()[1], 1e-15);
    }

    [Fact]
    public void Linear_scaling_slows_every_pair() => AssertEach(new LinearRotaryScaling { Factor = 4 }, static (frequency, _) => frequency / 4);

    /// <summary>Between the fastest pair, which stays, and the slowest, which is interpolated, the factor grows geometrically.</summary>
    [Fact]
    public void Ntk_scaling_keeps_the_fastest_pair_and_interpolates_the_slowest() =>
        AssertEach(new NtkRotaryScaling { Factor = 4 }, static (frequency, pair) => frequency * Math.Pow(4, -pair / 63.0));

    /// <summary>Llama 3.1: 128 elements, base 500,000, 8192 tokens. Waves of up to 2048 tokens stay, those of 8192 and more are stretched eightfold.</summary>
    [Fact]
    public void Llama3_scaling_goes_by_the_length_of_waves()
    {
        int kept = 0, stretched = 0, between = 0;
        AssertEach(new Llama3RotaryScaling { Factor = 8 }, (frequency, _) =>
        {
            double wave = 2 * Math.PI / frequency;
            if (wave < 2048)
            {
                kept++;
                return frequency;
            }

            if (wave > 8192)
            {
                stretched++;
                return frequency / 8;
            }

            between++;
            double smooth = ((8192 / wave) - 1) / 3;
            return ((1 - smooth) / 8 * frequency) + (smooth * frequency);
        });
        Assert.Equal((29, 29, 6), (kept, stretched, between));
    }

    /// <summary>Qwen-like: 128 elements, base 500,000 here, 32 and 1 turns within 8192 tokens: pairs 18 and 35 by <c>d ln(L / (2 pi r)) / (2 ln b)</c>, rounded outwards.</summary>
    [Fact]
    public void Yarn_scaling_has_a_ramp_between_two_pairs()
    {
        var yarn = new YarnRotaryScaling { Factor = 4, OriginalContext = 8192 };
        AssertEach(yarn, static (frequency, pair) =>
        {
            double share = pair <= 18 ? 0 : pair >= 35 ? 1 : (pair - 18) / 17.0;
            return frequency * (1 - (0.75 * share));
        });
        AssertEach(yarn with { WholePairs = false }, static (frequency, pair) =>
        {
            // 18.08... and 34.98..., by which pairs turn exactly 32 times and once.
            double low = 64 * Math.Log(8192 / (64 * Math.PI)) / Math.Log(500_000), high = 64 * Math.Log(8192 / (2 * Math.PI)) / Math.Log(500_000);
            return frequency * (1 - (0.75 * Math.Clamp((pair - low) / (high - low), 0, 1)));
        });
        Assert.Equal(1.1386294361119891, new RotaryEmbedding(new() { HeadDim = 128, Scaling = yarn }).Magnitude, 1e-15);
        Assert.Equal(0.5, new RotaryEmbedding(new() { HeadDim = 128, Scaling = yarn with { AttentionFactor = 0.5 } }).Magnitude);
        Assert.Equal(1, new RotaryEmbedding(new() { HeadDim = 128, Scaling = new LinearRotaryScaling { Factor = 4 } }).Magnitude);
    }

    [Fact]
    public void A_factor_of_one_changes_nothing()
    {
        foreach (RotaryScaling scaling in (RotaryScaling[])
            [new LinearRotaryScaling { Factor = 1 }, new NtkRotaryScaling { Factor = 1 }, new YarnRotaryScaling { Factor = 1, OriginalContext = 4096 }, new Llama3RotaryScaling { Factor = 1 }])
            AssertEach(scaling, static (frequency, _) => frequency);
    }

    [Fact]
    public void What_contradicts_itself_is_refused_by_name()
    {
        Assert.Equal("Factor", Assert.Throws<ArgumentOutOfRangeException>(() => new LinearRotaryScaling { Factor = 0.5 }).ParamName);
        Assert.Equal("OriginalContext", Assert.Throws<ArgumentOutOfRangeException>(() => new YarnRotaryScaling { Factor = 2, OriginalContext = double.NaN }).ParamName);
        Assert.Equal("AttentionFactor", Assert.Throws<ArgumentOutOfRangeException>(() => new YarnRotaryScaling { Factor = 2, OriginalContext = 9, AttentionFactor = 0 }).ParamName);
        Assert.Equal("RotaryDim", Assert.Throws<ArgumentOutOfRangeException>(() => new RotaryOptions { HeadDim = 8, RotaryDim = 5 }).ParamName);
        Assert.Equal("Base", Assert.Throws<ArgumentOutOfRangeException>(() => new RotaryOptions { HeadDim = 8, Base = 1 }).ParamName);
        Assert.Equal("Pairing", Assert.Throws<ArgumentOutOfRangeException>(() => new RotaryOptions { HeadDim = 8, Pairing = (RotaryPairing)2 }).ParamName);
        AssertRefused("RotaryDim 8 from Offset 2 on does not fit a head of 9 elements", new() { HeadDim = 9, RotaryDim = 8, Offset = 2 });
        AssertRefused("RotaryDim 7 from Offset 0 on", new() { HeadDim = 7 });
        AssertRefused("BetaFast 1 is below BetaSlow 32", new() { HeadDim = 8, Scaling = new YarnRotaryScaling { Factor = 2, OriginalContext = 9, BetaFast = 1, BetaSlow = 32 } });
        AssertRefused("HighFrequencyFactor 1 is below LowFrequencyFactor 4", new() { HeadDim = 8, Scaling = new Llama3RotaryScaling { Factor = 2, HighFrequencyFactor = 1, LowFrequencyFactor = 4 } });

        static void AssertRefused(string start, RotaryOptions options) =>
            Assert.StartsWith(start, Assert.Throws<ArgumentException>(nameof(options), () => new RotaryEmbedding(options)).Message, StringComparison.Ordinal);
    }

    /// <param name="scaling">The scaling.</param>
    /// <param name="expected">From a pair's frequency without scaling, and its number.</param>
    private static void AssertEach(RotaryScaling scaling, Func<double, int, double> expected)
    {
        var options = new RotaryOptions { HeadDim = 128, Base = 500_000, Scaling = scaling };
        ReadOnlySpan<double> frequencies = new RotaryEmbedding(options).GetFrequencies();
        Assert.Equal(64, frequencies.Length);
        for (int pair = 0; pair < 64; pair++)
        {
            double frequency = expected(Math.Exp(-Math.Log(500_000) * pair / 64), pair);
            Assert.True(Math.Abs(frequencies[pair] - frequency) <= 1e-13 * frequency, $"pair {pair} of {scaling}: {frequencies[pair]}, not {frequency}");
        }
    }
}
