using System.Runtime.CompilerServices;
using FusedAttention.Diagnostics;
using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

/// <summary>What the garbage collector sees. Alone, because the census counts the caches of the whole process.</summary>
[CollectionDefinition(nameof(CacheMemoryTests), DisableParallelization = true)]
[Collection(nameof(CacheMemoryTests))]
public sealed class CacheMemoryTests
{
    [Fact]
    public void Steady_state_allocates_nothing()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 600, blockSize: 4, heads: 2, keyDim: 8));
        float[] row = new float[16];
        int[] tokens = new int[400];
        PagedBatch batch = cache.CreateBatch();
        CacheSequence[] sequences = [cache.CreateSequence(), cache.CreateSequence(), cache.CreateSequence()];

        Round();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Round();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        cache.CreateBatch();
        Assert.NotEqual(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Round()
        {
            for (int step = 0; step < 400; step++)
            {
                batch.Clear();
                foreach (CacheSequence sequence in sequences)
                {
                    cache.Append(sequence, row, row);
                    batch.Add(sequence, 1);
                }

                if (batch.Sequences.CumulativeQueryLengths[3] != 3) throw new InvalidOperationException();
                if (step % 50 == 49)
                {
                    CacheSequence fork = cache.Fork(sequences[0]);
                    cache.Append(fork, row, row);
                    cache.Publish(sequences[1], tokens.AsSpan(0, step));
                    CacheSequence cached = cache.CreateSequence(tokens, out _);
                    cache.DropBefore(sequences[2], step / 2);
                    cache.Free(fork);
                    cache.Free(cached);
                }
            }

            foreach (CacheSequence sequence in sequences) cache.Truncate(sequence, 0);
        }
    }

    [Fact]
    public void The_census_counts_living_caches()
    {
        Collect();
        (long used, long total) = (CacheCensus.UsedBlocks, CacheCensus.TotalBlocks);
        var cache = new PagedKeyValueCache<float>(Options(blocks: 50));
        cache.Extend(cache.CreateSequence(), 9);
        Assert.Equal((used + 5, total + 50), (CacheCensus.UsedBlocks, CacheCensus.TotalBlocks));
        cache.Dispose();
        Assert.Equal((used, total), (CacheCensus.UsedBlocks, CacheCensus.TotalBlocks));
    }

    [Fact]
    public void A_cache_that_nobody_disposes_is_collected_with_its_memory()
    {
        Collect();
        long total = CacheCensus.TotalBlocks;
        WeakReference memory = Abandon();
        Assert.Equal(total + 50, CacheCensus.TotalBlocks);
        Collect();
        Assert.Equal(total, CacheCensus.TotalBlocks);
        Assert.False(memory.IsAlive);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static WeakReference Abandon()
        {
            var cache = new PagedKeyValueCache<float>(Options(blocks: 50));
            cache.Extend(cache.CreateSequence(), 9);
            return new(cache.Memory);
        }
    }

    [Fact]
    public void Block_tables_in_use_keep_the_memory_of_an_abandoned_cache()
    {
        PagedSequences sequences = Abandon(out WeakReference memory);
        Collect();
        Assert.True(memory.IsAlive);
        Assert.Equal(1, sequences.CumulativeQueryLengths.Length - 1);
        Assert.Equal(9, sequences.ContextLengths[0]);
        Assert.InRange(sequences.BlockTables[0], 0, 49);

        [MethodImpl(MethodImplOptions.NoInlining)]
        static PagedSequences Abandon(out WeakReference memory)
        {
            var cache = new PagedKeyValueCache<float>(Options(blocks: 50));
            CacheSequence sequence = cache.CreateSequence();
            cache.Extend(sequence, 9);
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, 1);
            memory = new(cache.Memory);
            return batch.Sequences;
        }
    }

    private static void Collect()
    {
        for (int i = 0; i < 2; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        GC.Collect();
    }
}
