using FusedAttention.Paging.Ledger;
using Xunit;

namespace FusedAttention.Tests.Paging.Ledger;

/// <summary>Publishing goes on where it was, and begins anew where that no longer holds.</summary>
public sealed class PublishingTests : IDisposable
{
    private const int BlockSize = 4;

    private readonly RecordingStorage _storage = new();
    private readonly CacheLedger _ledger;
    private readonly int[] _tokens = [.. Enumerable.Range(1, 40)];

    public PublishingTests() => _ledger = new(blocks: 12, BlockSize, layers: 1, _storage, typeof(PublishingTests));

    public void Dispose() => _storage.Dispose();

    [Fact]
    public void Each_time_only_what_is_new_is_looked_for()
    {
        CacheSequence sequence = Sequence(4);
        Assert.True(Publish(sequence, 4));
        for (int length = 5; length <= 40; length++)
        {
            _ledger.Extend(sequence, 1);
            long before = _ledger.PrefixLookUps;
            Assert.True(Publish(sequence, length));
            Assert.InRange(_ledger.PrefixLookUps - before, 0, 1);
            Assert.Equal(length / BlockSize * BlockSize, Found(length));
        }
    }

    [Fact]
    public void A_block_that_was_written_again_is_published_again()
    {
        CacheSequence sequence = Sequence(12);
        Publish(sequence, 12);
        _ledger.PrepareWrite(sequence, layer: 0, position: 5, tokens: 1, []);
        Assert.Equal(4, Found(12));
        Assert.True(Publish(sequence, 12));
        Assert.Equal(12, Found(12));
    }

    [Fact]
    public void A_sequence_that_was_cut_publishes_what_comes_instead()
    {
        CacheSequence sequence = Sequence(12);
        Publish(sequence, 12);
        _ledger.Truncate(sequence, 6);
        _ledger.Extend(sequence, 6);
        int[] other = [1, 2, 3, 4, 5, 6, 70, 80, 90, 91, 92, 93];
        Assert.True(_ledger.TryPublish(sequence, Prefix(other), withPartial: false));
        Assert.Equal((4, 12), (Found(12), Found(other)));
    }

    [Fact]
    public void Blocks_that_stood_for_a_sequences_own_are_replaced_by_these_when_they_are_gone()
    {
        CacheSequence first = Sequence(8), second = Sequence(12);
        Publish(first, 8);
        Publish(second, 12);                                // its third block follows the first one's second
        _ledger.Free(first);
        CacheSequence hungry = _ledger.Create();
        _ledger.Extend(hungry, 9 * BlockSize);              // takes the blocks that were kept
        Assert.Equal(0, Found(12));
        _ledger.Free(hungry);
        _ledger.Extend(second, 4);
        Assert.True(Publish(second, 16));
        Assert.Equal(16, Found(16));
    }

    [Fact]
    public void Other_tokens_do_not_follow_what_stood_for_the_first_ones()
    {
        CacheSequence first = Sequence(8), second = Sequence(12);
        Publish(first, 8);
        Publish(second, 8);                                 // by the first one's blocks; its own are not published
        int[] other = [9, 9, 9, 9, .. _tokens[4..12]];
        Assert.True(_ledger.TryPublish(second, Prefix(other), withPartial: false));
        Assert.Equal((12, 8), (Found(other), Found(12)));
    }

    [Fact]
    public void Forgetting_begins_anew()
    {
        CacheSequence sequence = Sequence(8);
        Publish(sequence, 8);
        _ledger.ForgetPrefixes();
        _ledger.Extend(sequence, 4);
        Assert.True(Publish(sequence, 12));
        Assert.Equal(0, Found(12));
    }

    [Fact]
    public void Other_tokens_and_stale_sequences_are_refused()
    {
        CacheSequence sequence = Sequence(8);
        Publish(sequence, 8);
        Assert.False(_ledger.TryPublish(sequence, Prefix([1, 2, 3, 4, 5, 6, 7, 9]), withPartial: false));
        Assert.False(Publish(sequence, 12));
        Assert.False(Publish(default, 4));
        Assert.Equal(8, Found(12));
    }

    [Fact]
    public void The_beginning_of_a_block_is_copied_and_grows_into_a_whole_one()
    {
        CacheSequence sequence = Sequence(7);
        Assert.True(_ledger.TryPublish(sequence, Prefix(_tokens[..7]), withPartial: true));
        AssertMatch(_tokens[..7], tokens: 7, copied: 3);
        AssertMatch([1, 2, 3, 4, 5, 60, 61], tokens: 5, copied: 1);
        AssertMatch([1, 2, 3, 4, 50], tokens: 4, copied: 0);

        // What is written behind what was published leaves it as it is.
        _ledger.Extend(sequence, 1);
        _ledger.PrepareWrite(sequence, layer: 0, position: 7, tokens: 1, []);
        AssertMatch(_tokens[..7], tokens: 7, copied: 3);
        Assert.True(Publish(sequence, 8));
        Assert.Equal(8, Found(8));
        AssertMatch(_tokens[..7], tokens: 7, copied: 3);
        _ledger.PrepareWrite(sequence, layer: 0, position: 6, tokens: 1, []);
        AssertMatch(_tokens[..7], tokens: 4, copied: 0);
    }

    [Fact]
    public void A_copy_that_fails_leaves_nothing_behind()
    {
        CacheSequence sequence = Sequence(7);
        _ledger.TryPublish(sequence, Prefix(_tokens[..7]), withPartial: true);
        _storage.FailAt = 0;
        PrefixMatch match = _ledger.Match(Prefix(_tokens[..7]), window: 0, partial: true);
        Assert.Throws<IOException>(() => _ledger.Create(Prefix(_tokens[..7]), window: 0, partial: true, ref match));
        Assert.Equal((2, 1), (_ledger.UsedBlocks, _ledger.Sequences));
    }

    [Fact]
    public void A_match_that_others_have_made_stale_is_looked_up_again()
    {
        CacheSequence sequence = Sequence(8), hungry = _ledger.Create();
        Publish(sequence, 8);
        _ledger.Free(sequence);
        PrefixMatch match = _ledger.Match(Prefix(_tokens[..8]), window: 0, partial: true);
        Assert.Equal((2, 2, 8), (match.Blocks, match.Revived, match.Tokens));
        _ledger.Extend(hungry, 11 * BlockSize);
        CacheSequence created = _ledger.Create(Prefix(_tokens[..8]), window: 0, partial: true, ref match);
        Assert.Equal((4, 4), (match.Tokens, _ledger.GetLength(created)));
    }

    private CacheSequence Sequence(int tokens)
    {
        CacheSequence sequence = _ledger.Create();
        _ledger.Extend(sequence, tokens);
        return sequence;
    }

    private bool Publish(CacheSequence sequence, int tokens) => _ledger.TryPublish(sequence, Prefix(_tokens[..tokens]), withPartial: false);

    private int Found(int tokens) => Found(_tokens[..tokens]);

    private int Found(int[] tokens)
    {
        _ledger.Free(_ledger.Create(tokens, out int cached));
        return cached;
    }

    private void AssertMatch(int[] wanted, int tokens, int copied)
    {
        int copies = _storage.Copies.Count;
        PrefixMatch match = _ledger.Match(Prefix(wanted), window: 0, partial: true);
        CacheSequence sequence = _ledger.Create(Prefix(wanted), window: 0, partial: true, ref match);
        Assert.Equal((tokens, tokens), (match.Tokens, _ledger.GetLength(sequence)));
        Assert.Equal(copied > 0 ? [copied] : [], _storage.Copies.Skip(copies).Select(static copy => copy.Slots));
        _ledger.Free(sequence);
    }

    private static TokenPrefix Prefix(int[] tokens)
    {
        var keys = new PrefixKeys(BlockSize, default);
        keys.Extend(tokens);
        return new(tokens, keys.Keys, default);
    }
}
