using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests.Paging;

/// <summary>Attention over the cache has the very bits of attention over the same keys and values in one piece, whatever the cache has been through.</summary>
public sealed class CacheAttentionTests
{
    private const int QueryHeads = 6, Heads = 2, KeyDim = 24, ValueDim = 20;

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(16)]
    [InlineData(256)]
    public void Paged_attention_over_the_cache_is_attention_over_contiguous_data(int blockSize)
    {
        using (var run = new Run<float, float>(blockSize, static x => x, static x => x)) run.Everything();
        using (var run = new Run<float, Half>(blockSize, static x => x, static x => (Half)x)) run.Everything();
        using (var run = new Run<BFloat16, BFloat16>(blockSize, static x => (BFloat16)x, static x => (BFloat16)x)) run.Everything();
    }

    private sealed class Run<TQuery, TKeyValue>(int blockSize, Func<float, TQuery> toQuery, Func<float, TKeyValue> toKeyValue)
        : IDisposable
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        private readonly Random _random = new(blockSize);
        private readonly List<(CacheSequence Handle, List<TKeyValue> Keys, List<TKeyValue> Values)> _sequences = [];
        private readonly PagedKeyValueCache<TKeyValue> _cache = new(new()
        {
            Blocks = 2400 / blockSize + 16,
            BlockSize = blockSize,
            KeyValueHeads = Heads,
            KeyDim = KeyDim,
            ValueDim = ValueDim,
        });

        public void Everything()
        {
            PagedBatch batch = _cache.CreateBatch();
            foreach (int length in new[] { 300, 1, 37, 0, 129 })
            {
                _sequences.Add((_cache.CreateSequence(), [], []));
                for (int have = 0; have < length; have += 50) Append(_sequences.Count - 1, Math.Min(50, length - have));
            }

            Compare(batch, AttentionMask.Causal, 300, 1, 5, 0, 64);     // prefill, decode and chunks in one call

            // A fork in the middle of a block, then both write.
            _sequences.Add((_cache.Fork(_sequences[2].Handle), [.. _sequences[2].Keys], [.. _sequences[2].Values]));
            Append(2, 3);
            Append(5, 4);
            Compare(batch, AttentionMask.Causal, 1, 1, 3, 0, 1, 4);

            // A rejected draft: truncated, then other tokens.
            _cache.Truncate(_sequences[5].Handle, 38);
            _sequences[5].Keys.RemoveRange(38 * Heads * KeyDim, 3 * Heads * KeyDim);
            _sequences[5].Values.RemoveRange(38 * Heads * ValueDim, 3 * Heads * ValueDim);
            Append(5, 1);
            Compare(batch, AttentionMask.Full, 1, 1, 1, 0, 2, 1);

            // The prompt of the first sequence found by its tokens.
            int[] tokens = Enumerable.Range(0, 300).ToArray();
            _cache.Publish(_sequences[0].Handle, tokens);
            CacheSequence found = _cache.CreateSequence(tokens, out int cached);
            Assert.Equal(300 / blockSize * blockSize, cached);
            _sequences.Add((found, _sequences[0].Keys[..(cached * Heads * KeyDim)], _sequences[0].Values[..(cached * Heads * ValueDim)]));
            Append(6, 10);
            Compare(batch, AttentionMask.Causal, 1, 0, 1, 0, 1, 1, 10);

            // What a window has passed is dropped, and others take the blocks.
            AttentionMask window = AttentionMask.CausalWindow(left: 30);
            foreach (int s in new[] { 0, 4 }) _cache.DropBefore(_sequences[s].Handle, _cache.GetLength(_sequences[s].Handle) - 31);
            Append(1, 200);
            Append(0, 1);
            Append(4, 1);
            Compare(batch, window, 1, 20, 1, 0, 1, 1, 1);
        }

        public void Dispose() => _cache.Dispose();

        private void Append(int index, int tokens)
        {
            (CacheSequence handle, List<TKeyValue> keys, List<TKeyValue> values) = _sequences[index];
            TKeyValue[] newKeys = Noise(tokens * Heads * KeyDim, toKeyValue), newValues = Noise(tokens * Heads * ValueDim, toKeyValue);
            _cache.Append(handle, newKeys, newValues);
            keys.AddRange(newKeys);
            values.AddRange(newValues);
        }

        private void Compare(PagedBatch batch, AttentionMask mask, params int[] queryTokens)
        {
            batch.Clear();
            for (int s = 0; s < queryTokens.Length; s++) batch.Add(_sequences[s].Handle, queryTokens[s]);
            int total = batch.TotalQueries;
            TQuery[] query = Noise(total * QueryHeads * KeyDim, toQuery);
            var output = new TQuery[total * QueryHeads * ValueDim];
            var options = new AttentionOptions { Mask = mask };
            Attention.ForwardPaged(
                new ReadOnlyTensorSpan<TQuery>(query, [total, QueryHeads, KeyDim]),
                _cache.GetKeys(),
                _cache.GetValues(),
                new TensorSpan<TQuery>(output, [total, QueryHeads, ValueDim]),
                batch.Sequences,
                options);

            for (int s = 0, row = 0; s < queryTokens.Length; row += queryTokens[s++])
            {
                int count = queryTokens[s], keys = _sequences[s].Keys.Count / (Heads * KeyDim);
                if (count == 0) continue;
                var expected = new TQuery[count * QueryHeads * ValueDim];
                Attention.Forward(
                    new ReadOnlyTensorSpan<TQuery>(query.AsSpan(row * QueryHeads * KeyDim), [count, QueryHeads, KeyDim]),
                    new ReadOnlyTensorSpan<TKeyValue>(_sequences[s].Keys.ToArray(), [keys, Heads, KeyDim]),
                    new ReadOnlyTensorSpan<TKeyValue>(_sequences[s].Values.ToArray(), [keys, Heads, ValueDim]),
                    new TensorSpan<TQuery>(expected, [count, QueryHeads, ValueDim]),
                    options);
                Assert.Equal(expected, output.AsSpan(row * QueryHeads * ValueDim, expected.Length).ToArray());
                Assert.Contains(expected, static x => !x.Equals(default(TQuery)));
            }
        }

        private T[] Noise<T>(int length, Func<float, T> convert)
        {
            var noise = new T[length];
            for (int i = 0; i < length; i++) noise[i] = convert((float)((_random.NextDouble() * 2) - 1));
            return noise;
        }
    }
}
