using System.Numerics.Tensors;
using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

public sealed class CacheConcurrencyTests
{
    [Fact]
    public void Sequences_of_many_threads_do_not_disturb_each_other_or_a_reader()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 120, blockSize: 4, heads: 2, keyDim: 3));
        int[] prompt = Enumerable.Range(0, 10).ToArray();
        CacheSequence shared = cache.CreateSequence();
        AppendTokens(cache, shared, owner: 0, from: 0, prompt.Length);
        cache.Publish(shared, prompt);
        Exception? failure = null;
        int running = 4;

        Thread[] writers = Enumerable.Range(1, 4).Select(owner => Start(() =>
        {
            var random = new Random(owner);
            for (int round = 0; round < 300; round++)
            {
                // Half of the sequences start as forks of what the reader reads, partial last block included, half from the index.
                int cached = prompt.Length;
                CacheSequence mine = round % 2 == 0 ? cache.Fork(shared) : cache.CreateSequence(prompt, out cached);
                AppendTokens(cache, mine, round % 2 == 0 ? owner : 0, cached, prompt.Length - cached);
                int length = prompt.Length;
                for (int step = 0; step < 6; step++)
                {
                    int more = random.Next(1, 7);
                    AppendTokens(cache, mine, owner, length, more);
                    length += more;
                    if (step == 3)
                    {
                        cache.Truncate(mine, prompt.Length + 1);
                        length = prompt.Length + 1;
                    }

                    Verify(cache, mine, prompt.Length, owner, length);
                }

                cache.Free(mine);
            }
        }, () => Interlocked.Decrement(ref running))).ToArray();

        Thread reader = Start(() =>
        {
            int[] table = Table(cache, shared);
            while (Volatile.Read(ref running) > 0)
            {
                Verify(cache, shared, prompt.Length, owner: 0, prompt.Length);
                Assert.Equal(table, Table(cache, shared));
                int used = cache.UsedBlocks;
                Assert.InRange(used, 3, 120);
            }
        });

        foreach (Thread thread in writers.Append(reader)) thread.Join();
        Assert.Null(failure);
        Verify(cache, shared, prompt.Length, owner: 0, prompt.Length);
        Assert.Equal(1, cache.SequenceCount);
        Assert.Equal(3, cache.UsedBlocks);
        cache.Free(shared);
        Assert.Equal(0, cache.UsedBlocks);

        Thread Start(Action work, Action? last = null)
        {
            var thread = new Thread(() =>
            {
                try
                {
                    work();
                }
                catch (Exception e)
                {
                    failure ??= e;
                }
                finally
                {
                    last?.Invoke();
                }
            });
            thread.Start();
            return thread;
        }
    }

    [Fact]
    public void Threads_that_compete_for_too_few_blocks_lose_none()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 9, blockSize: 2));
        int refused = 0;
        Thread[] threads = Enumerable.Range(0, 4).Select(seed => new Thread(() =>
        {
            var random = new Random(seed);
            CacheSequence sequence = cache.CreateSequence();
            for (int i = 0; i < 3000; i++)
            {
                try
                {
                    cache.Extend(sequence, random.Next(1, 6));
                }
                catch (OutOfBlocksException)
                {
                    Interlocked.Increment(ref refused);
                    cache.Truncate(sequence, 0);
                }
            }

            cache.Free(sequence);
        })).ToArray();
        foreach (Thread thread in threads) thread.Start();
        foreach (Thread thread in threads) thread.Join();
        Assert.True(refused > 0);
        Assert.Equal((0, 9, 0), (cache.UsedBlocks, cache.FreeBlocks, cache.SequenceCount));
    }

    [Fact]
    public void Disposing_waits_for_writes_under_way()
    {
        for (int round = 0; round < 20; round++)
        {
            var cache = new PagedKeyValueCache<float>(Options(blocks: 64, blockSize: 16, heads: 4, keyDim: 32));
            var rows = new float[64 * 16 * 128];
            Exception? seen = null;
            var thread = new Thread(() =>
            {
                try
                {
                    CacheSequence sequence = cache.CreateSequence();
                    while (true)
                    {
                        cache.Append(sequence, rows, rows);
                        cache.Truncate(sequence, 0);
                    }
                }
                catch (Exception e)
                {
                    seen = e;
                }
            });
            thread.Start();
            Thread.Sleep(round % 4);
            cache.Dispose();
            thread.Join();
            Assert.IsType<ObjectDisposedException>(seen);
        }
    }

    private static float Mark(int owner, int position) => (owner * 10_000) + position;

    private static void AppendTokens(PagedKeyValueCache<float> cache, CacheSequence sequence, int owner, int from, int tokens)
    {
        var rows = new float[tokens * 6];
        for (int i = 0; i < rows.Length; i++) rows[i] = Mark(owner, from + (i / 6));
        Assert.Equal(from, cache.Append(sequence, rows, rows));
    }

    private static void Verify(PagedKeyValueCache<float> cache, CacheSequence sequence, int sharedTokens, int owner, int length)
    {
        int[] table = Table(cache, sequence);
        ReadOnlyTensorSpan<float> keys = cache.GetKeys(), values = cache.GetValues();
        for (int p = 0; p < length; p++)
        {
            float expected = Mark(p < sharedTokens ? 0 : owner, p);
            if (keys[table[p / 4], p % 4, 1, 2] != expected || values[table[p / 4], p % 4, 0, 0] != expected)
                Assert.Fail($"{sequence}, position {p} holds {keys[table[p / 4], p % 4, 1, 2]}, expected {expected}");
        }
    }
}
