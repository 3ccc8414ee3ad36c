using FusedAttention.Paging.Ledger;
using Xunit;

namespace FusedAttention.Tests.Paging.Ledger;

public sealed class FreshnessTests
{
    private readonly Freshness _freshness = new();

    [Fact]
    public void What_follows_old_tokens_is_old()
    {
        _freshness.Extend(1, 0, 8);
        Assert.Equal((8, 0), (_freshness.Tokens(1), _freshness.Tokens(2)));
        _freshness.Extend(2, 8, 12);
        Assert.Equal(0, _freshness.Tokens(2));
        _freshness.Truncate(0);
        _freshness.Extend(2, 0, 3);
        _freshness.Extend(2, 3, 5);
        Assert.Equal(5, _freshness.Tokens(2));
        _freshness.Truncate(2);
        Assert.Equal(2, _freshness.Tokens(2));
    }

    [Fact]
    public void Old_tokens_are_fresh_when_every_layer_is_written_again_in_order()
    {
        _freshness.Extend(1, 0, 8);
        Assert.False(_freshness.Rewrite(1, 8, 0, 2, 0, 8));     // nothing is old
        Assert.True(_freshness.Rewrite(2, 8, 0, 2, 0, 5));
        Assert.Equal(0, _freshness.Tokens(2));
        Assert.True(_freshness.Rewrite(2, 8, 1, 2, 0, 3));
        Assert.Equal(3, _freshness.Tokens(2));
        Assert.False(_freshness.Rewrite(2, 8, 1, 2, 4, 4));     // token 3 is missing
        Assert.Equal(3, _freshness.Tokens(2));
        Assert.True(_freshness.Rewrite(2, 8, 1, 2, 2, 6));
        Assert.Equal(5, _freshness.Tokens(2));
        Assert.False(_freshness.Rewrite(2, 8, 0, 2, 0, 5));     // again: no news
        Assert.True(_freshness.Rewrite(2, 8, 0, 2, 5, 3));
        Assert.Equal(8, _freshness.Tokens(2));
        _freshness.Extend(2, 8, 9);
        Assert.Equal(9, _freshness.Tokens(2));
    }

    [Fact]
    public void A_new_epoch_begins_anew_and_a_shorter_sequence_has_less()
    {
        _freshness.Extend(1, 0, 8);
        _freshness.Rewrite(2, 8, 0, 2, 0, 8);
        _freshness.Rewrite(3, 8, 1, 2, 0, 8);
        Assert.Equal(0, _freshness.Tokens(3));
        _freshness.Truncate(4);
        _freshness.Rewrite(3, 6, 0, 2, 0, 6);
        Assert.Equal(4, _freshness.Tokens(3));                  // layer 1 had its own first four written
        var copy = new Freshness();
        copy.CopyFrom(_freshness);
        Assert.True(copy.Rewrite(3, 6, 1, 2, 4, 2));
        Assert.Equal((6, 4), (copy.Tokens(3), _freshness.Tokens(3)));
        _freshness.Reset();
        Assert.Equal(0, _freshness.Tokens(3));
    }
}
