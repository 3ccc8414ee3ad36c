using FusedAttention.Paging.Ledger;
using Xunit;

namespace FusedAttention.Tests.Paging.Ledger;

/// <summary>With one bucket everything collides, so that only tokens and parents tell entries apart.</summary>
public sealed class PrefixIndexTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_block_is_found_by_its_tokens_and_by_what_comes_before(int buckets)
    {
        var index = new PrefixIndex(8, buckets);
        Assert.Equal(-1, index.Find(PrefixIndex.Root, [1, 2]));
        Assert.False(index.Contains(3));
        index.Insert(3, PrefixIndex.Root, [1, 2]);
        index.Insert(5, 3, [1, 2]);
        index.Insert(0, 5, [7, 8]);
        index.Insert(1, PrefixIndex.Root, [7, 8]);
        Assert.Equal((3, 5, 0, 1), (index.Find(PrefixIndex.Root, [1, 2]), index.Find(3, [1, 2]), index.Find(5, [7, 8]), index.Find(PrefixIndex.Root, [7, 8])));
        Assert.Equal((-1, -1), (index.Find(3, [7, 8]), index.Find(PrefixIndex.Root, [2, 1])));
        Assert.True(index.Contains(5) && index.HasParent(5));
        Assert.Equal([7, 8], index.Tokens(0).ToArray());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Children_are_lost_with_their_parent_and_not_found_under_its_successor(int buckets)
    {
        var index = new PrefixIndex(8, buckets);
        index.Insert(3, PrefixIndex.Root, [1, 2]);
        index.Insert(5, 3, [4, 4]);
        index.Remove(3);
        Assert.False(index.Contains(3));
        Assert.True(index.Contains(5));
        Assert.False(index.HasParent(5));
        index.Insert(3, PrefixIndex.Root, [9, 9]);
        Assert.Equal(-1, index.Find(3, [4, 4]));
        Assert.False(index.HasParent(5));
        index.Insert(6, 3, [4, 4]);
        Assert.Equal(6, index.Find(3, [4, 4]));
    }

    [Fact]
    public void Everything_can_be_removed_at_once()
    {
        var index = new PrefixIndex(4);
        index.Clear();
        index.Insert(0, PrefixIndex.Root, [1]);
        index.Insert(1, 0, [2]);
        index.Clear();
        Assert.False(index.Contains(0) || index.Contains(1));
        Assert.Equal(-1, index.Find(PrefixIndex.Root, [1]));
        index.Insert(1, PrefixIndex.Root, [1]);
        Assert.Equal(1, index.Find(PrefixIndex.Root, [1]));
        Assert.Equal(-1, index.Find(1, [2]));
    }
}
