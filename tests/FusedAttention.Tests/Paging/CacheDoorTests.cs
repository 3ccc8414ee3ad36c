using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

/// <summary>Attention over a cache, a layer and a batch in one call.</summary>
public sealed class CacheDoorTests
{
    private const int QueryHeads = 4, Heads = 2, KeyDim = 8, ValueDim = 6;

    private static readonly AttentionOptions Causal = new() { Mask = AttentionMask.Causal };

    [Fact]
    public void It_is_the_call_over_the_views_and_tables()
    {
        using PagedKeyValueCache<Half> cache = Create<Half>(layers: 2);
        PagedBatch batch = Fill(cache, out _);
        for (int layer = 0; layer < 2; layer++)
        {
            Tensor<float> query = Query(batch), output = Output(batch), expected = Output(batch);
            var lse = new float[QueryHeads * batch.TotalQueries];
            Attention.ForwardPaged(query, output, cache, layer, batch, Causal);
            Attention.ForwardPaged(
                query.AsReadOnlyTensorSpan(), cache.GetKeys(layer), cache.GetValues(layer), expected.AsTensorSpan(), batch.Sequences, Causal,
                new AttentionOperands { LogSumExp = new TensorSpan<float>(lse, [QueryHeads, batch.TotalQueries]) });
            Assert.Equal(expected.ToArray(), output.ToArray());
            Assert.Contains(output.ToArray(), static x => x != 0);

            float[] rows = query.ToArray(), written = new float[expected.FlattenedLength];
            Attention.ForwardPaged(rows, written, cache, layer, batch, Causal);
            Assert.Equal(expected.ToArray(), written);
        }
    }

    [Fact]
    public void Spans_have_whole_rows()
    {
        using PagedKeyValueCache<float> cache = Create<float>();
        PagedBatch batch = Fill(cache, out _);
        int tokens = batch.TotalQueries;
        float[] query = new float[tokens * QueryHeads * KeyDim], output = new float[tokens * QueryHeads * ValueDim];
        Assert.Equal($"query has {query.Length - 1} elements; expected [{tokens}, heads, {KeyDim}], a multiple of {tokens * KeyDim}. (Parameter 'query')", Refused(query.AsSpan(1), output));
        Assert.StartsWith("query has 0 elements;", Refused([], []), StringComparison.Ordinal);
        Assert.StartsWith($"output has {output.Length - 1} elements; expected [{tokens}, {QueryHeads}, {ValueDim}]", Refused(query, output.AsSpan(1)), StringComparison.Ordinal);
        batch.Clear();
        Attention.ForwardPaged(Array.Empty<float>(), Array.Empty<float>(), cache, 0, batch);

        string Refused(ReadOnlySpan<float> rows, Span<float> results)
        {
            try
            {
                Attention.ForwardPaged(rows, results, cache, 0, batch);
                return "taken";
            }
            catch (ArgumentException e)
            {
                return e.Message;
            }
        }
    }

    [Fact]
    public void A_fork_between_writing_and_reading_is_seen_by_nobody()
    {
        using PagedKeyValueCache<float> cache = Create<float>();
        CacheSequence a = cache.CreateSequence();
        cache.Append(a, Numbers(5 * Heads * KeyDim, 1), Numbers(5 * Heads * ValueDim, 2));
        cache.Extend(a, 1);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(a, 1);
        CacheSequence fork = cache.Fork(a);
        cache.Write(0, batch, Numbers(Heads * KeyDim, 3), Numbers(Heads * ValueDim, 4));
        Tensor<float> query = Query(batch), output = Output(batch);
        Attention.ForwardPaged(query, output, cache, 0, batch, Causal);

        using PagedKeyValueCache<float> alone = Create<float>();
        CacheSequence same = alone.CreateSequence();
        alone.Append(same, Numbers(5 * Heads * KeyDim, 1), Numbers(5 * Heads * ValueDim, 2));
        alone.Append(same, Numbers(Heads * KeyDim, 3), Numbers(Heads * ValueDim, 4));
        PagedBatch other = alone.CreateBatch();
        other.Add(same, 1);
        Tensor<float> expected = Output(other);
        Attention.ForwardPaged(query, expected, alone, 0, other, Causal);
        Assert.Equal(expected.ToArray(), output.ToArray());
        Assert.NotEqual(Table(cache, a)[1], Table(cache, fork)[1]);
    }

    [Fact]
    public void Caches_and_batches_cannot_be_mixed_up()
    {
        using PagedKeyValueCache<float> cache = Create<float>(layers: 2), other = Create<float>(layers: 2);
        PagedBatch batch = Fill(cache, out CacheSequence[] sequences);
        Tensor<float> query = Query(batch), output = Output(batch);
        Assert.Throws<ArgumentNullException>("cache", () => Attention.ForwardPaged(query, output, (PagedKeyValueCache<float>)null!, 0, batch));
        Assert.Throws<ArgumentNullException>("batch", () => Attention.ForwardPaged(query, output, cache, 0, null!));
        Assert.Throws<ArgumentNullException>("query", () => Attention.ForwardPaged(null!, output, cache, 0, batch));
        Assert.Throws<ArgumentNullException>("output", () => Attention.ForwardPaged(query, null!, cache, 0, batch));
        Assert.Throws<ArgumentOutOfRangeException>("layer", () => Attention.ForwardPaged(query, output, cache, 2, batch));
        Assert.StartsWith("The batch was made by another cache.", Assert.Throws<ArgumentException>("batch", () => Attention.ForwardPaged(query, output, other, 0, batch)).Message, StringComparison.Ordinal);
        cache.Truncate(sequences[1], 2);
        Assert.StartsWith("The batch is out of date", Assert.Throws<ArgumentException>("batch", () => Attention.ForwardPaged(query, output, cache, 0, batch)).Message, StringComparison.Ordinal);
        Assert.DoesNotContain(output.ToArray(), static x => x != 0);
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => Attention.ForwardPaged(query, output, cache, 0, batch));
    }

    [Fact]
    public void What_was_dropped_is_not_read()
    {
        using PagedKeyValueCache<float> cache = Create<float>();
        PagedBatch batch = Fill(cache, out CacheSequence[] sequences);
        cache.DropBefore(sequences[0], 8);
        Tensor<float> query = Query(batch), output = Output(batch);
        Assert.Throws<ArgumentException>("sequences", () => Attention.ForwardPaged(query, output, cache, 0, batch, Causal));
        Attention.ForwardPaged(query, output, cache, 0, batch, new AttentionOptions { Mask = AttentionMask.CausalWindow(left: 1) });
        Assert.Contains(output.ToArray(), static x => x != 0);
    }

    [Slow]
    [Fact]
    public void A_cache_whose_last_mention_is_the_call_stays_until_it_has_ended()
    {
        using var collections = Meanwhile.Repeat(static () =>
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        });
        for (int round = 0; round < 30; round++)
        {
            float[] first = Call(), second = Call();
            Assert.Equal(first, second);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        static float[] Call()
        {
            PagedKeyValueCache<float> cache = new(new() { Blocks = 200, BlockSize = 16, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim });
            CacheSequence sequence = cache.CreateSequence();
            cache.Append(sequence, Numbers(3000 * Heads * KeyDim, 1), Numbers(3000 * Heads * ValueDim, 2));
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, 40);
            Tensor<float> query = Query(batch), output = Output(batch);
            Attention.ForwardPaged(query, output, cache, 0, batch, Causal);
            return output.ToArray();
        }
    }

    [Fact]
    public void A_step_allocates_nothing()
    {
        using PagedKeyValueCache<Half> cache = Create<Half>(layers: 2);
        CacheSequence[] sequences = [cache.CreateSequence(), cache.CreateSequence()];
        PagedBatch batch = cache.CreateBatch();
        var execution = new CpuExecution { MaxDegreeOfParallelism = 1 };
        float[] keys = Numbers(2 * Heads * KeyDim, 1), values = Numbers(2 * Heads * ValueDim, 2), query = Numbers(2 * QueryHeads * KeyDim, 3), output = new float[2 * QueryHeads * ValueDim];
        for (int i = 0; i < 3; i++) Steps();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Steps();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Steps()
        {
            for (int step = 0; step < 20; step++)
            {
                cache.Extend(sequences, [1, 1]);
                batch.Clear();
                batch.Add(sequences, [1, 1]);
                for (int layer = 0; layer < 2; layer++)
                {
                    cache.Write<float>(layer, batch, keys, values);
                    Attention.ForwardPaged(
                        new ReadOnlyTensorSpan<float>(query, [2, QueryHeads, KeyDim]), new TensorSpan<float>(output, [2, QueryHeads, ValueDim]), cache, layer, batch, Causal, execution: execution);
                }
            }

            foreach (CacheSequence sequence in sequences) cache.Truncate(sequence, 0);
        }
    }

    private static PagedKeyValueCache<T> Create<T>(int layers = 1)
        where T : unmanaged
        => new(Options(blocks: 20, blockSize: 4, heads: Heads, keyDim: KeyDim, valueDim: ValueDim, layers: layers));

    /// <summary>Sequences of 11, 5 and 1 tokens with 2, 5 and 1 queries, written as a batch.</summary>
    private static PagedBatch Fill(KeyValueCache cache, out CacheSequence[] sequences)
    {
        sequences = [cache.CreateSequence(), cache.CreateSequence(), cache.CreateSequence()];
        cache.Extend(sequences, [11, 5, 1]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(sequences, [11, 5, 1]);
        for (int layer = 0; layer < cache.Options.Layers; layer++)
            cache.Write<float>(layer, batch, Numbers(17 * Heads * KeyDim, layer), Numbers(17 * Heads * ValueDim, 10 + layer));
        batch.Clear();
        batch.Add(sequences, [2, 5, 1]);
        return batch;
    }

    private static Tensor<float> Query(PagedBatch batch) => Tensor.Create(Numbers(batch.TotalQueries * QueryHeads * KeyDim, 7), [batch.TotalQueries, QueryHeads, KeyDim]);

    private static Tensor<float> Output(PagedBatch batch) => Tensor.CreateFromShape<float>([batch.TotalQueries, QueryHeads, ValueDim]);

    private static float[] Numbers(int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() * 2) - 1))];
    }
}
