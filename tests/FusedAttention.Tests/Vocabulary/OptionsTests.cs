using System.Collections.Immutable;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>Masks and options: what they hold, and what they refuse when they are made.</summary>
public sealed class OptionsTests
{
    [Fact]
    public void Defaults_are_plain_attention()
    {
        AttentionOptions options = AttentionOptions.Default;
        Assert.Equal(options, new AttentionOptions());
        Assert.Null(options.Scale);
        Assert.Null(options.QueryOffset);
        Assert.Equal(AttentionMask.Full, options.Mask);
        Assert.Equal(AttentionAlignment.BottomRight, options.Alignment);
        Assert.Equal(0, options.SoftCap);
        Assert.True(options.AlibiSlopes.IsDefaultOrEmpty);
        Assert.True(options.SinkLogits.IsDefaultOrEmpty);
        Assert.False(options.RowInvariant);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    [InlineData(0f)]
    [InlineData(-0.125f)]
    public void Scale_must_be_finite_and_positive(float scale) => AssertRefused("Scale", scale, () => new AttentionOptions { Scale = scale });

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(-1f)]
    public void Soft_cap_must_be_finite_and_not_negative(float cap) => AssertRefused("SoftCap", cap, () => new AttentionOptions { SoftCap = cap });

    [Theory]
    [InlineData((1L << 40) + 1)]
    [InlineData(-(1L << 40) - 1)]
    [InlineData(long.MinValue)]
    [InlineData(long.MaxValue)]
    public void Query_offset_must_leave_room_for_arithmetic(long offset) => AssertRefused("QueryOffset", offset, () => new AttentionOptions { QueryOffset = offset });

    [Theory]
    [InlineData(1L << 40)]
    [InlineData(-(1L << 40))]
    [InlineData(0)]
    public void Query_offset_may_be_large(long offset) => Assert.Equal(offset, new AttentionOptions { QueryOffset = offset }.QueryOffset);

    [Fact]
    public void Alignment_must_be_a_member_of_its_enumeration()
        => AssertRefused("Alignment", (AttentionAlignment)7, () => new AttentionOptions { Alignment = (AttentionAlignment)7 });

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void Slopes_must_be_finite(float slope)
    {
        var error = AssertRefused("AlibiSlopes", slope, () => new AttentionOptions { AlibiSlopes = [0.5f, slope] });
        Assert.Contains("AlibiSlopes[1]", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void Sinks_must_not_be_NaN_or_infinite_weight(float logit)
    {
        var error = AssertRefused("SinkLogits", logit, () => new AttentionOptions { SinkLogits = [0, 1, logit] });
        Assert.Contains("SinkLogits[2]", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_sink_without_weight_is_allowed()
        => Assert.Equal(float.NegativeInfinity, new AttentionOptions { SinkLogits = [float.NegativeInfinity] }.SinkLogits[0]);

    [Fact]
    public void Options_do_not_follow_the_array_they_were_made_from()
    {
        float[] slopes = [0.5f, 0.25f];
        var options = new AttentionOptions { AlibiSlopes = [.. slopes], SinkLogits = slopes.ToImmutableArray() };
        slopes[0] = 99;
        Assert.Equal(0.5f, options.AlibiSlopes[0]);
        Assert.Equal(0.5f, options.SinkLogits[0]);
    }

    [Fact]
    public void Masks_hold_what_their_names_say()
    {
        Assert.Equal(default, AttentionMask.Full);
        Assert.False(AttentionMask.Full.IsCausal);
        Assert.True(AttentionMask.Causal.IsCausal);
        Assert.Null(AttentionMask.Causal.WindowLeft);
        AttentionMask window = AttentionMask.Window(3, null);
        Assert.False(window.IsCausal);
        Assert.Equal(3, window.WindowLeft);
        Assert.Null(window.WindowRight);
        AttentionMask both = AttentionMask.Window(3, 4).AndCausal();
        Assert.True(both.IsCausal);
        Assert.Equal(4, both.WindowRight);
        Assert.Equal(AttentionMask.CausalWindow(3), window.AndCausal());
        Assert.NotEqual(AttentionMask.CausalWindow(3), AttentionMask.CausalWindow(4));
        Assert.Equal("full", AttentionMask.Full.ToString());
        Assert.Equal("causal", AttentionMask.Causal.ToString());
        Assert.Equal("window(7, 0)", AttentionMask.Window(7, 0).ToString());
        Assert.Equal("causal window(256, *)", AttentionMask.CausalWindow(256).ToString());
    }

    [Fact]
    public void Windows_do_not_reach_backwards()
    {
        Assert.Contains("-1", Assert.Throws<ArgumentOutOfRangeException>(() => AttentionMask.CausalWindow(-1)).Message, StringComparison.Ordinal);
        Assert.Equal("windowLeft", Assert.Throws<ArgumentOutOfRangeException>(() => AttentionMask.Window(-5, 0)).ParamName);
        Assert.Equal("windowRight", Assert.Throws<ArgumentOutOfRangeException>(() => AttentionMask.Window(0, -5)).ParamName);
    }

    [Fact]
    public void A_shape_has_the_value_dimension_of_the_key_unless_told()
    {
        Assert.Equal(64, new AttentionShape(1, 2, 3, 8, 4, 64).ValueDim);
        Assert.Equal(32, new AttentionShape(1, 2, 3, 8, 4, 64, 32).ValueDim);
    }

    private static ArgumentOutOfRangeException AssertRefused<T>(string name, T value, Func<object> make)
    {
        var error = Assert.Throws<ArgumentOutOfRangeException>(make);
        Assert.Equal(name, error.ParamName);
        Assert.Contains($"{value}", error.Message, StringComparison.Ordinal);
        return error;
    }

    [Fact]
    public void Options_say_what_is_set()
    {
        Assert.Equal("full", AttentionOptions.Default.ToString());
        Assert.Equal(
            "causal window(7, 0), top-left, scale 0.5, ALiBi (2 slopes), soft cap 1.5, sinks (1), row-invariant",
            new AttentionOptions
            {
                Mask = AttentionMask.Window(7, 0).AndCausal(), Alignment = AttentionAlignment.TopLeft, Scale = 0.5f, AlibiSlopes = [1, 2], SoftCap = 1.5f, SinkLogits = [0], RowInvariant = true,
            }.ToString());
        Assert.Equal("causal, first query at -3", new AttentionOptions { Mask = AttentionMask.Causal, QueryOffset = -3 }.ToString());
    }
}
