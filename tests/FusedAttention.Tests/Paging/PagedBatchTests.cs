using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

public sealed class PagedBatchTests
{
    [Fact]
    public void A_batch_lists_lengths_and_tables()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 40, blockSize: 2));
        CacheSequence a = cache.CreateSequence(), b = cache.CreateSequence(), empty = cache.CreateSequence();
        cache.Extend(a, 5);
        cache.Extend(b, 2);
        cache.DropBefore(a, 3);
        PagedBatch batch = cache.CreateBatch();
        Assert.Equal([0], batch.Sequences.CumulativeQueryLengths.ToArray());
        Assert.True(batch.Sequences.MaxBlocksPerSequence > 0);

        Assert.Equal(0, batch.Add(a, 3));
        Assert.Equal(3, batch.Add(empty, 0));
        Assert.Equal(3, batch.Add(b, 1));
        Assert.Equal((3, 4, 5), (batch.Count, batch.TotalQueries, batch.MaxContextLength));
        Assert.Equal([0, 3, 3, 4], batch.Sequences.CumulativeQueryLengths.ToArray());
        Assert.Equal([5, 0, 2], batch.Sequences.ContextLengths.ToArray());
        AssertRow(batch, 0, Table(cache, a));
        AssertRow(batch, 1, []);
        AssertRow(batch, 2, Table(cache, b));

        batch.Clear();
        Assert.Equal((0, 0, 0), (batch.Count, batch.TotalQueries, batch.MaxContextLength));
        batch.Add(b, 2);
        Assert.Equal([0, 2], batch.Sequences.CumulativeQueryLengths.ToArray());
        AssertRow(batch, 0, Table(cache, b));
    }

    [Fact]
    public void A_batch_grows_in_both_directions()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 2000, blockSize: 1));
        PagedBatch batch = cache.CreateBatch();
        for (int round = 0; round < 2; round++)
        {
            var random = new Random(round);
            var sequences = new List<CacheSequence>();
            for (int i = 0; i < 70; i++)
            {
                CacheSequence sequence = cache.CreateSequence();
                cache.Extend(sequence, random.Next(1 + (i * i / 100)));
                sequences.Add(sequence);
                batch.Add(sequence, i % 3);
            }

            Assert.Equal(70 * batch.Sequences.MaxBlocksPerSequence, batch.Sequences.BlockTables.Length);
            for (int i = 0; i < sequences.Count; i++)
            {
                AssertRow(batch, i, Table(cache, sequences[i]));
                Assert.Equal(cache.GetLength(sequences[i]), batch.Sequences.ContextLengths[i]);
                Assert.Equal(i % 3, batch.Sequences.CumulativeQueryLengths[i + 1] - batch.Sequences.CumulativeQueryLengths[i]);
                cache.Free(sequences[i]);
            }

            batch.Clear();
        }
    }

    [Fact]
    public void Rows_that_widen_within_the_batchs_memory_keep_their_contents()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 300, blockSize: 1));
        PagedBatch batch = cache.CreateBatch();
        CacheSequence[] sequences = [.. Enumerable.Range(0, 30).Select(_ => cache.CreateSequence())];
        foreach (CacheSequence sequence in sequences) cache.Extend(sequence, 5);
        foreach (CacheSequence sequence in sequences) batch.Add(sequence, 1);
        int width = batch.Sequences.MaxBlocksPerSequence;
        batch.Clear();

        CacheSequence wide = cache.CreateSequence();
        cache.Extend(wide, 40);
        foreach (CacheSequence sequence in sequences.AsSpan(0, 4)) batch.Add(sequence, 1);
        batch.Add(wide, 1);
        Assert.True(batch.Sequences.MaxBlocksPerSequence > width);
        for (int i = 0; i < 4; i++) AssertRow(batch, i, Table(cache, sequences[i]));
        AssertRow(batch, 4, Table(cache, wide));
    }

    private static void AssertRow(PagedBatch batch, int row, int[] table)
    {
        PagedSequences s = batch.Sequences;
        int[] expected = [.. table, .. Enumerable.Repeat(-1, s.MaxBlocksPerSequence - table.Length)];
        Assert.Equal(expected, s.BlockTables.Slice(row * s.MaxBlocksPerSequence, s.MaxBlocksPerSequence).ToArray());
    }
}
