using Xunit;

namespace FusedAttention.Tests.Paging;

/// <summary>Extending several sequences at once, and writing a whole batch.</summary>
public sealed class BatchWriteTests
{
    [Fact]
    public void Several_sequences_are_extended_or_none()
    {
        using PagedKeyValueCache<float> cache = Create(blocks: 6);
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence(), c = cache.CreateSequence();
        cache.Extend([a, b], [3, 5]);
        Assert.Equal((3, 5, 5), (cache.GetLength(a), cache.GetLength(b), cache.UsedBlocks));
        OutOfBlocksException full = Assert.Throws<OutOfBlocksException>(() => cache.Extend([c, a, b], [3, 1, 1]));
        Assert.Equal((2, 1), (full.Needed, full.Free));
        Assert.Equal((3, 5, 0, 5), (cache.GetLength(a), cache.GetLength(b), cache.GetLength(c), cache.UsedBlocks));
        cache.Extend([a, b, c], [1, 1, 0]);
        cache.Extend([c, a], [2, 0]);
        Assert.Equal((4, 6, 2, 6), (cache.GetLength(a), cache.GetLength(b), cache.GetLength(c), cache.UsedBlocks));
        cache.Extend([], []);
    }

    [Fact]
    public void Forks_that_are_extended_together_get_blocks_of_their_own()
    {
        using PagedKeyValueCache<float> cache = Create(blocks: 6);
        CacheSequence a = cache.CreateSequence();
        cache.Append(a, [1, 2, 3], [1, 2, 3]);
        CacheSequence b = cache.Fork(a);
        cache.Extend([a, b], [1, 1]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 1);
        batch.Add(b, 1);
        cache.Write(0, batch, [10, 20], [30, 40]);
        Assert.Equal([1, 2, 3, 10], Keys(cache, a));
        Assert.Equal([1, 2, 3, 20], Keys(cache, b));
        Assert.Equal(3, cache.UsedBlocks);
    }

    [Fact]
    public void A_batch_is_written_where_its_queries_stand()
    {
        using PagedKeyValueCache<float> cache = Create(blocks: 20);
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence(), c = cache.CreateSequence();
        cache.Append(a, [1, 2, 3], [1, 2, 3]);
        cache.Append(b, [5], [5]);
        cache.Extend([a, b], [2, 4]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(b, 4);
        batch.Add(c, 0);
        batch.Add(a, 2);
        cache.Write(0, batch, [11, 12, 13, 14, 15, 16], [1, 1, 1, 1, 1, 1]);
        Assert.Equal([5, 11, 12, 13, 14], Keys(cache, b));
        Assert.Equal([1, 2, 3, 15, 16], Keys(cache, a));
    }

    [Fact]
    public void Wrong_arguments_are_refused()
    {
        using PagedKeyValueCache<float> cache = Create(blocks: 6), other = Create(blocks: 6);
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence();
        Assert.Throws<ArgumentException>("tokens", () => cache.Extend([a, b], [1]));
        Assert.Throws<ArgumentException>("sequences", () => cache.Extend([a, b, a], [1, 1, 1]));
        Assert.Throws<ArgumentException>("sequence", () => cache.Extend([a, default], [1, 1]));
        Assert.Throws<ArgumentOutOfRangeException>("tokens", () => cache.Extend([a, b], [1, -1]));
        Assert.Equal(0, cache.UsedBlocks);

        cache.Extend([a, b], [2, 1]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 2);
        batch.Add(b, 1);
        Assert.Throws<ArgumentException>("batch", () => other.Write(0, batch, [1, 2, 3], [1, 2, 3]));
        Assert.Throws<ArgumentException>("keys", () => cache.Write(0, batch, [1, 2], [1, 2]));
        Assert.Throws<ArgumentException>("values", () => cache.Write(0, batch, [1, 2, 3], [1, 2]));
        Assert.Throws<ArgumentOutOfRangeException>("layer", () => cache.Write(1, batch, [1, 2, 3], [1, 2, 3]));
        cache.Truncate(b, 0);
        ArgumentException old = Assert.Throws<ArgumentException>("batch", () => cache.Write(0, batch, [1, 2, 3], [1, 2, 3]));
        Assert.StartsWith($"The batch is out of date: {b} was shortened since it was added.", old.Message, StringComparison.Ordinal);
    }

    private static PagedKeyValueCache<float> Create(int blocks) => new(new() { Blocks = blocks, BlockSize = 2, KeyValueHeads = 1, KeyDim = 1 });

    private static float[] Keys(PagedKeyValueCache<float> cache, CacheSequence sequence)
    {
        int[] table = new int[cache.CopyBlockTable(sequence, [])];
        cache.CopyBlockTable(sequence, table);
        return [.. Enumerable.Range(0, cache.GetLength(sequence)).Select(i => cache.GetKeys()[table[i / 2], i % 2, 0, 0])];
    }
}
