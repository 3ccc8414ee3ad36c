using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

public sealed class PrefixTests
{
    [Fact]
    public void A_published_prompt_is_found_up_to_its_last_full_equal_block()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 8, blockSize: 2));
        CacheSequence a = Prompt(cache, 1, 2, 3, 4, 5);
        AssertCached(cache, 0, 1, 2, 3, 4);
        cache.Publish(a, [1, 2, 3, 4, 5]);
        AssertCached(cache, 4, 1, 2, 3, 4, 5, 6, 7);
        AssertCached(cache, 4, 1, 2, 3, 4);
        AssertCached(cache, 2, 1, 2, 3);
        AssertCached(cache, 2, 1, 2, 3, 9);
        AssertCached(cache, 0, 9, 2, 3, 4);
        AssertCached(cache, 0, 3, 4);
        AssertCached(cache, 0, 1);
        AssertCached(cache, 0);

        cache.Append(a, [6], [6]);
        cache.Publish(a, [1, 2, 3, 4, 5, 6]);
        AssertCached(cache, 6, 1, 2, 3, 4, 5, 6, 7);
        Assert.Equal(3, cache.UsedBlocks);
    }

    [Fact]
    public void Prompts_outlive_their_sequence_and_the_oldest_is_given_up_first()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 4, blockSize: 2));
        CacheSequence a = Prompt(cache, 1, 2, 3, 4), b = Prompt(cache, 5, 6, 7, 8);
        cache.Publish(a, [1, 2, 3, 4]);
        cache.Publish(b, [5, 6, 7, 8]);
        cache.Free(a);
        cache.Free(b);
        Assert.Equal((0, 4, 4), (cache.UsedBlocks, cache.FreeBlocks, cache.KeptBlocks));

        AssertCached(cache, 4, 1, 2, 3, 4);     // used just now, so b's blocks are the oldest
        CacheSequence c = Prompt(cache, 9, 9);
        Assert.Equal((1, 3, 3), (cache.UsedBlocks, cache.FreeBlocks, cache.KeptBlocks));
        AssertCached(cache, 2, 5, 6, 7, 8);     // of b, the end went first
        AssertCached(cache, 4, 1, 2, 3, 4);
        cache.Extend(c, 2);
        AssertCached(cache, 0, 5, 6, 7, 8);
        cache.Extend(c, 4);
        AssertCached(cache, 0, 1, 2, 3, 4);
        Assert.Equal((4, 0, 0), (cache.UsedBlocks, cache.FreeBlocks, cache.KeptBlocks));
    }

    [Fact]
    public void Writing_a_published_block_takes_it_back_or_copies_it()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 8, blockSize: 2));
        CacheSequence a = Prompt(cache, 1, 2, 3, 4);
        cache.Publish(a, [1, 2, 3, 4]);
        CacheSequence b = cache.CreateSequence([1, 2, 3, 4], out _);
        cache.Write(0, b, 3, [40], [40]);
        Assert.Equal([1, 2, 3, 4], Contents(cache, a));
        AssertCached(cache, 4, 1, 2, 3, 4);
        cache.Write(0, a, 3, [41], [41]);
        AssertCached(cache, 2, 1, 2, 3, 4);

        cache.Free(b);
        cache.Truncate(a, 1);
        AssertCached(cache, 2, 1, 2);           // the block still holds it
        cache.Append(a, [7], [7]);
        AssertCached(cache, 0, 1, 2);
        cache.Publish(a, [1, 7]);
        AssertCached(cache, 2, 1, 7);
    }

    [Fact]
    public void A_prefix_whose_start_is_gone_is_not_found_under_another_start()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 3, blockSize: 2));
        CacheSequence a = Prompt(cache, 1, 2, 3, 4);
        cache.Publish(a, [1, 2, 3, 4]);
        int start = Table(cache, a)[0];
        cache.DropBefore(a, 2);
        CacheSequence b = Prompt(cache, 9, 9, 8, 8);
        Assert.Contains(start, Table(cache, b));
        cache.Publish(b, [9, 9, 8, 8]);
        AssertCached(cache, 0, 1, 2, 3, 4);
        AssertCached(cache, 4, 9, 9, 8, 8);
        AssertCached(cache, 2, 9, 9, 3, 4);     // the block of 3, 4 followed 1, 2, which lay where 9, 9 lies now

        cache.Free(b);
        int free = cache.KeptBlocks;
        cache.Free(a);                          // nobody can find 3, 4 any more: not kept
        Assert.Equal(free, cache.KeptBlocks);
    }

    [Fact]
    public void Equal_prompts_computed_twice_are_published_once()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 8, blockSize: 2));
        CacheSequence a = Prompt(cache, 1, 2, 3, 4), b = Prompt(cache, 1, 2, 3, 4, 5, 6);
        cache.Publish(a, [1, 2, 3, 4]);
        cache.Publish(b, [1, 2, 3, 4, 5, 6]);
        AssertCached(cache, 6, 1, 2, 3, 4, 5, 6);
        cache.Free(b);
        Assert.Equal(1, cache.KeptBlocks);
        cache.Free(a);
        Assert.Equal(3, cache.KeptBlocks);
        AssertCached(cache, 6, 1, 2, 3, 4, 5, 6);
    }

    [Fact]
    public void Other_tokens_for_a_published_block_are_refused()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 8, blockSize: 2));
        CacheSequence a = Prompt(cache, 1, 2, 3, 4);
        cache.Publish(a, [1, 2, 3, 4]);
        ArgumentException e = Assert.Throws<ArgumentException>(() => cache.Publish(a, [1, 2, 3, 5]));
        Assert.Equal($"The tokens from position 2 on are not those that this block of {a} was published with. (Parameter 'tokens')", e.Message);
        cache.Publish(a, [1, 2, 3]);
    }

    [Fact]
    public void Prefixes_can_be_forgotten()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 4, blockSize: 1));
        cache.ForgetPrefixes();
        CacheSequence a = Prompt(cache, 1, 2), b = Prompt(cache, 3);
        cache.Publish(a, [1, 2]);
        cache.Publish(b, [3]);
        cache.Free(b);
        cache.ForgetPrefixes();
        AssertCached(cache, 0, 1, 2);
        Assert.Equal((2, 2, 0), (cache.UsedBlocks, cache.FreeBlocks, cache.KeptBlocks));
        Assert.Equal([1, 2], Contents(cache, a));
        cache.Publish(a, [1, 2]);
        AssertCached(cache, 0, 1, 2);
    }

    private static CacheSequence Prompt(PagedKeyValueCache<float> cache, params int[] tokens)
    {
        CacheSequence sequence = cache.CreateSequence();
        float[] rows = Array.ConvertAll(tokens, static t => (float)t);
        cache.Append(sequence, rows, rows);
        return sequence;
    }

    private static void AssertCached(PagedKeyValueCache<float> cache, int expected, params int[] tokens)
    {
        CacheSequence sequence = cache.CreateSequence(tokens, out int cached);
        Assert.Equal(expected, cached);
        Assert.Equal(expected, cache.GetLength(sequence));
        Assert.Equal(Array.ConvertAll(tokens[..cached], static t => (float)t), Contents(cache, sequence));
        cache.Free(sequence);
    }
}
