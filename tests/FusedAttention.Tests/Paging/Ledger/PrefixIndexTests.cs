using FusedAttention.Paging.Ledger;
using Xunit;

namespace FusedAttention.Tests.Paging.Ledger;

/// <summary>With one bucket everything collides, and with one key for all too, so that only tokens, parents and identities tell entries apart.</summary>
public sealed class PrefixIndexTests
{
    private const long Root = PrefixIndex.Root;
    private const ulong Key = 7;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void A_block_is_found_by_its_tokens_and_by_what_comes_before(int buckets)
    {
        var index = new PrefixIndex(8, buckets);
        Assert.Equal(-1, index.Find(Root, default, Key, [1, 2]));
        Assert.False(index.Contains(3));
        Insert(index, 3, -1, [1, 2]);
        Insert(index, 5, 3, [1, 2]);
        Insert(index, 0, 5, [7, 8]);
        Insert(index, 1, -1, [7, 8]);
        Assert.Equal((3, 5, 0, 1), (Find(index, -1, [1, 2]), Find(index, 3, [1, 2]), Find(index, 5, [7, 8]), Find(index, -1, [7, 8])));
        Assert.Equal((-1, -1), (Find(index, 3, [7, 8]), Find(index, -1, [2, 1])));
        Assert.Equal(-1, index.Find(Root, default, Key + 1, [1, 2]));
        Assert.True(index.Contains(5) && index.HasParent(5));
        Assert.Equal([7, 8], index.Tokens(0).ToArray());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Children_are_lost_with_their_parent_and_not_found_under_its_successor(int buckets)
    {
        var index = new PrefixIndex(8, buckets);
        Insert(index, 3, -1, [1, 2]);
        Insert(index, 5, 3, [4, 4]);
        index.Remove(3);
        Assert.False(index.Contains(3));
        Assert.True(index.Contains(5));
        Assert.False(index.HasParent(5));
        Assert.Equal(5, index.FindAlone(Key, [4, 4]));
        Insert(index, 3, -1, [9, 9]);
        Assert.Equal(-1, Find(index, 3, [4, 4]));
        Assert.False(index.HasParent(5));
        Insert(index, 6, 3, [4, 4]);
        Assert.Equal(6, Find(index, 3, [4, 4]));
    }

    [Fact]
    public void An_identity_has_prefixes_of_its_own()
    {
        var index = new PrefixIndex(4, 1);
        index.Insert(0, -1, Root, 1, Key, [1, 2], isFull: true);
        Assert.Equal((0, -1, -1), (index.Find(Root, 1, Key, [1, 2]), index.Find(Root, 0, Key, [1, 2]), index.Find(Root, 2, Key, [1, 2])));
        Assert.Equal(-1, index.FindBeginning(Root, 0, [1, 2], out _));
        Assert.Equal(0, index.FindBeginning(Root, 1, [1, 2], out _));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void The_longest_beginning_is_found_among_full_and_partial_blocks(int buckets)
    {
        var index = new PrefixIndex(8, buckets);
        Insert(index, 0, -1, [1, 2, 3, 4]);
        index.Insert(1, -1, Root, default, 0, [1, 2, 9], isFull: false);
        Insert(index, 2, 0, [1, 5, 5, 5]);
        Assert.Equal((0, 3), Beginning(Root, [1, 2, 3, 5]));
        Assert.Equal((1, 3), Beginning(Root, [1, 2, 9, 5]));
        Assert.Equal((2, 1), Beginning(index.SerialOf(0), [1, 2, 3, 4]));
        Assert.Equal((-1, 0), Beginning(Root, [2, 2]));
        Assert.Equal(-1, index.Find(Root, default, 0, [1, 2, 9]));
        index.Remove(0);
        Assert.Equal((1, 2), Beginning(Root, [1, 2, 3, 5]));
        index.Remove(1);
        Assert.Equal((-1, 0), Beginning(Root, [1, 2, 3, 5]));

        (int, int) Beginning(long parent, int[] tokens) => (index.FindBeginning(parent, default, tokens, out int common), common);
    }

    [Fact]
    public void Everything_can_be_removed_at_once()
    {
        var index = new PrefixIndex(4);
        index.Clear();
        Insert(index, 0, -1, [1]);
        Insert(index, 1, 0, [2]);
        long version = index.Version;
        index.Clear();
        Assert.NotEqual(version, index.Version);
        Assert.False(index.Contains(0) || index.Contains(1));
        Assert.Equal(-1, Find(index, -1, [1]));
        Insert(index, 1, -1, [1]);
        Assert.Equal(1, Find(index, -1, [1]));
        Assert.Equal(-1, Find(index, 1, [2]));
    }

    [Fact]
    public void A_key_follows_from_all_tokens_their_order_and_the_identity()
    {
        var keys = new HashSet<ulong>();
        int count = 0;
        for (int identity = 0; identity < 3; identity++)
        {
            for (int length = 0; length < 9; length++)
            {
                for (int changed = -1; changed < length; changed++)
                {
                    int[] tokens = [.. Enumerable.Range(0, length).Select(i => i == changed ? 77 : 0)];
                    keys.Add(PrefixKey.Next(PrefixKey.Start((UInt128)identity), tokens));
                    keys.Add(PrefixKey.Next(PrefixKey.Next(PrefixKey.Start((UInt128)identity), tokens), [5]));
                    count += 2;
                }
            }
        }

        Assert.Equal(count, keys.Count);
        Assert.Equal(PrefixKey.Next(3, [1, 2, 3]), PrefixKey.Next(3, [1, 2, 3]));
        Assert.NotEqual(PrefixKey.Identity("a"), PrefixKey.Identity("b"));
        Assert.Equal((UInt128)0, PrefixKey.Identity(null));
        var grown = new PrefixKeys(2, 9);
        grown.Extend([1, 2, 3]);
        grown.Extend([1, 2, 3, 4, 5]);
        Assert.Equal([PrefixKey.Next(PrefixKey.Start(9), [1, 2]), PrefixKey.Next(PrefixKey.Next(PrefixKey.Start(9), [1, 2]), [3, 4])], grown.Keys.ToArray());
    }

    private static void Insert(PrefixIndex index, int block, int parent, int[] tokens)
        => index.Insert(block, parent, parent < 0 ? Root : index.SerialOf(parent), default, Key, tokens, isFull: true);

    private static int Find(PrefixIndex index, int parent, int[] tokens) => index.Find(parent < 0 ? Root : index.SerialOf(parent), default, Key, tokens);
}
