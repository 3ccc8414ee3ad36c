using System.Numerics.Tensors;
using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

/// <summary>Rows of any of the three types into a cache of any of them, by every door.</summary>
public sealed class WriteConversionTests
{
    [Fact]
    public void Every_type_goes_into_every_cache()
    {
        new Run<float, Half>(static x => x, static x => (Half)x).Everything();
        new Run<float, BFloat16>(static x => x, static x => (BFloat16)x).Everything();
        new Run<Half, float>(static x => (Half)x, static x => (float)(Half)x).Everything();
        new Run<Half, BFloat16>(static x => (Half)x, static x => (BFloat16)(float)(Half)x).Everything();
        new Run<BFloat16, float>(static x => (BFloat16)x, static x => (BFloat16)x).Everything();
        new Run<BFloat16, Half>(static x => (BFloat16)x, static x => (Half)(float)(BFloat16)x).Everything();
        new Run<Half, Half>(static x => (Half)x, static x => (Half)x).Everything();
    }

    [Fact]
    public void Other_types_are_refused_and_change_nothing()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 4));
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, 1);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(sequence, 1);
        double[] row = [1];
        Action[] mistakes =
        [
            () => cache.Append(sequence, row, row), () => cache.Append(sequence, Tensor.Create(row, [1, 1, 1]), Tensor.Create(row, [1, 1, 1])),
            () => cache.Write(0, sequence, 0, row, row), () => cache.Write(0, batch, row, row), () => cache.Write(0, batch, Tensor.Create(row, [1, 1, 1]), Tensor.Create(row, [1, 1, 1])),
        ];
        foreach (Action mistake in mistakes)
            Assert.StartsWith("keys has elements of type Double; attention computes on float, Half and BFloat16.", Assert.Throws<ArgumentException>("keys", mistake).Message, StringComparison.Ordinal);
        Assert.Equal(1, cache.GetLength(sequence));
    }

    [Fact]
    public void Converting_allocates_nothing()
    {
        using var cache = new PagedKeyValueCache<Half>(Options(blocks: 100, blockSize: 4, heads: 2, keyDim: 8, layers: 3));
        CacheSequence[] sequences = [cache.CreateSequence(), cache.CreateSequence()];
        PagedBatch batch = cache.CreateBatch();
        float[] rows = new float[32];
        Steps();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Steps();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Steps()
        {
            for (int step = 0; step < 50; step++)
            {
                cache.Extend(sequences, [1, 1]);
                batch.Clear();
                batch.Add(sequences, [1, 1]);
                for (int layer = 0; layer < 3; layer++) cache.Write<float>(layer, batch, rows, rows);
            }

            foreach (CacheSequence sequence in sequences) cache.Truncate(sequence, 0);
        }
    }

    private sealed class Run<TSource, T>(Func<float, TSource> toSource, Func<float, T> toCache)
        where TSource : unmanaged
        where T : unmanaged
    {
        private const int Heads = 2, KeyDim = 3, ValueDim = 2;

        public void Everything()
        {
            Check(static (cache, sequence, keys, values) => cache.Append<TSource>(sequence, keys, values));
            Check(static (cache, sequence, keys, values) => cache.Append(sequence, Keys(keys), Values(values)));
            Check(static (cache, sequence, keys, values) => cache.Append(sequence, Keys(keys).AsReadOnlyTensorSpan(), Values(values).AsReadOnlyTensorSpan()));
            CheckWrite(static (cache, sequence, _, keys, values) => cache.Write<TSource>(0, sequence, 0, keys, values));
            CheckWrite(static (cache, sequence, _, keys, values) => cache.Write(0, sequence, 0, Keys(keys), Values(values)));
            CheckWrite(static (cache, sequence, _, keys, values) => cache.Write(0, sequence, 0, Keys(keys).AsReadOnlyTensorSpan(), Values(values).AsReadOnlyTensorSpan()));
            CheckWrite(static (cache, _, batch, keys, values) => cache.Write<TSource>(0, batch, keys, values));
            CheckWrite(static (cache, _, batch, keys, values) => cache.Write(0, batch, Keys(keys), Values(values)));
            CheckWrite(static (cache, _, batch, keys, values) => cache.Write(0, batch, Keys(keys).AsReadOnlyTensorSpan(), Values(values).AsReadOnlyTensorSpan()));
        }

        private static Tensor<TSource> Keys(TSource[] rows) => Tensor.Create(rows, [rows.Length / Heads / KeyDim, Heads, KeyDim]);

        private static Tensor<TSource> Values(TSource[] rows) => Tensor.Create(rows, [rows.Length / Heads / ValueDim, Heads, ValueDim]);

        private void CheckWrite(Action<KeyValueCache, CacheSequence, PagedBatch, TSource[], TSource[]> write) => Check((cache, sequence, keys, values) =>
        {
            int tokens = keys.Length / Heads / KeyDim;
            cache.Extend(sequence, tokens);
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, tokens);
            write(cache, sequence, batch, keys, values);
        });

        private void Check(Action<KeyValueCache, CacheSequence, TSource[], TSource[]> write)
        {
            const int Tokens = 7;
            using var cache = new PagedKeyValueCache<T>(Options(blocks: 4, blockSize: 2, heads: Heads, keyDim: KeyDim, valueDim: ValueDim));
            CacheSequence sequence = cache.CreateSequence();
            write(cache, sequence, [.. Numbers(Tokens * Heads * KeyDim).Select(toSource)], [.. Numbers(Tokens * Heads * ValueDim).Select(toSource)]);
            int[] table = Table(cache, sequence);
            for (int token = 0; token < Tokens; token++)
            {
                for (int i = 0; i < Heads * KeyDim; i++)
                    Assert.Equal(toCache(Number((token * Heads * KeyDim) + i)), cache.GetKeys()[table[token / 2], token % 2, i / KeyDim, i % KeyDim]);
                for (int i = 0; i < Heads * ValueDim; i++)
                    Assert.Equal(toCache(Number((token * Heads * ValueDim) + i)), cache.GetValues()[table[token / 2], token % 2, i / ValueDim, i % ValueDim]);
            }
        }

        private static IEnumerable<float> Numbers(int count) => Enumerable.Range(0, count).Select(Number);

        /// <summary>Some that neither 16-bit type holds, one beyond binary16, one denormal in it.</summary>
        private static float Number(int i) => i == 3 ? 1e6f : i == 4 ? 3e-6f : (i + 1) * 1.2345678f;
    }
}
