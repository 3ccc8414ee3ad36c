using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Xunit;

namespace FusedAttention.Tests.EightBits;

/// <summary>Caches of 8 bits: what is written is what <see cref="KeyValueQuantization"/> makes of the rows, bit for bit, by every door, and stays so through forks, copies, cuts and streams.</summary>
public sealed class EightBitCacheTests
{
    private const int Heads = 2, KeyDim = 64, ValueDim = 32, BlockSize = 4;

    [Fact]
    public void Rows_are_quantized_by_the_rule_through_every_door()
    {
        Doors<float, sbyte>();
        Doors<Half, sbyte>();
        Doors<BFloat16, sbyte>();
        Doors<float, Float8E4M3>();
        Doors<BFloat16, Float8E4M3>();
        Doors<float, Q8Block>();
        Doors<Half, Q8Block>();
    }

    [Fact]
    public void Sequences_keep_their_scales_through_forks_cuts_and_streams()
    {
        Lives<sbyte>();
        Lives<Float8E4M3>();
        Lives<Q8Block>();
    }

    /// <summary>Attention over the cache has the bits of attention over the same codes and scales in one piece.</summary>
    [Fact]
    public void Attention_over_the_cache_is_attention_over_its_codes()
    {
        Attends<sbyte>();
        Attends<Float8E4M3>();
        Attends<Q8Block>();
    }

    [Fact]
    public void Streams_go_from_any_type_to_any()
    {
        const int Tokens = 9;
        float[] keys = Noise(Tokens * KeyDim, 1), values = Noise(Tokens * ValueDim, 2);
        using var floats = new PagedKeyValueCache<float>(Options());
        using var codes = new PagedKeyValueCache<sbyte>(Options());
        CacheSequence sequence = floats.CreateSequence(), written = codes.CreateSequence();
        floats.Append(sequence, keys, values);
        codes.Append<float>(written, keys, values);

        // To codes as Write does it, and back to the numbers that they stand for.
        AssertSame(Contents(codes, written), Contents(codes, codes.Load(Saved(floats, sequence))));
        CacheSequence back = floats.Load(Saved(codes, written));
        int[] table = new int[8], codeTable = new int[8];
        floats.CopyBlockTable(back, table);
        codes.CopyBlockTable(written, codeTable);
        for (int t = 0; t < Tokens; t++)
        {
            for (int h = 0; h < Heads; h++)
            {
                for (int d = 0; d < KeyDim; d++)
                    Assert.Equal(codes.GetKeys()[codeTable[t / BlockSize], t % BlockSize, h, d] * codes.GetKeyScales()[codeTable[t / BlockSize], t % BlockSize, h], floats.GetKeys()[table[t / BlockSize], t % BlockSize, h, d]);
            }
        }

        using var blocks = new PagedKeyValueCache<Q8Block>(Options());
        using var halves = new PagedKeyValueCache<Half>(Options());
        CacheSequence inBlocks = blocks.CreateSequence();
        blocks.Append<float>(inBlocks, keys, values);
        CacheSequence asHalves = halves.Load(Saved(blocks, inBlocks));
        int[] blockTable = new int[8];
        blocks.CopyBlockTable(inBlocks, blockTable);
        halves.CopyBlockTable(asHalves, table);
        for (int d = 0; d < ValueDim; d++) Assert.Equal((Half)blocks.GetValues()[blockTable[1], 2, 1, d / 32][d % 32], halves.GetValues()[table[1], 2, 1, d]);
    }

    [Fact]
    public void What_does_not_fit_is_refused()
    {
        using var cache = new PagedKeyValueCache<sbyte>(Options());
        CacheSequence sequence = cache.CreateSequence();
        Assert.Contains("8-bit", Assert.Throws<ArgumentException>("keys", () => cache.Append(sequence, new sbyte[Heads * KeyDim], new sbyte[Heads * ValueDim])).Message, StringComparison.Ordinal);
        Assert.Equal(0, cache.GetLength(sequence));
        cache.Append<float>(sequence, new float[Heads * KeyDim], new float[Heads * ValueDim]);
        PagedBatch batch = cache.CreateBatch();
        batch.Add(sequence, 1);
        Tensor<float> query = Tensor.CreateFromShape<float>([1, Heads, KeyDim]), output = Tensor.CreateFromShape<float>([1, Heads, ValueDim]);
        Assert.Contains("cache's own", Assert.Throws<ArgumentException>("operands", () => Attention.ForwardPaged(query, output, cache, 0, batch, operands: new() { KeyScale = Refusal.In(1) })).Message, StringComparison.Ordinal);
        Assert.Contains("40", Assert.Throws<ArgumentException>("options", static () => new PagedKeyValueCache<Q8Block>(Options() with { ValueDim = 40 })).Message, StringComparison.Ordinal);
        Assert.Throws<NotSupportedException>(static () => new PagedKeyValueCache<byte>(Options()));
        Assert.True(cache.GetKeyScales().Lengths.SequenceEqual([20, BlockSize, Heads]));
        using var halves = new PagedKeyValueCache<Half>(Options());
        Assert.True(halves.GetKeyScales().IsEmpty);

        // A stream of blocks whose head says another dimension.
        using var blocks = new PagedKeyValueCache<Q8Block>(Options());
        using var other = new PagedKeyValueCache<float>(Options() with { KeyDim = 48 });
        byte[] saved = Saved(blocks, blocks.CreateSequence()).ToArray();
        saved[8 + (3 * 4)] = 48;
        Assert.Contains("48", Assert.Throws<InvalidDataException>(() => other.Load(new MemoryStream(saved))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Writing_allocates_nothing()
    {
        using var cache = new PagedKeyValueCache<sbyte>(Options());
        var rotary = new RotaryEmbedding(new() { HeadDim = KeyDim });
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        float[] keys = new float[7 * Heads * KeyDim], values = new float[7 * Heads * ValueDim];
        Step();
        long before = GC.GetAllocatedBytesForCurrentThread();
        Step();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Step()
        {
            cache.Extend(sequence, 7);
            batch.Clear();
            batch.Add(sequence, 7);
            cache.Write<float>(0, batch, keys, values, rotary);
            cache.Truncate(sequence, 0);
        }
    }

    private static PagedKeyValueCacheOptions Options() => new() { Blocks = 20, BlockSize = BlockSize, KeyValueHeads = Heads, KeyDim = KeyDim, ValueDim = ValueDim };

    /// <summary>Rows of tokens, all heads, in which one channel is larger than the rest.</summary>
    private static float[] Noise(int count, int seed)
    {
        float[] noise = new ProblemGenerator(seed).Numbers(count * Heads, 2, AttentionElementType.Float32);
        for (int i = 5; i < noise.Length; i += 32) noise[i] *= 9;
        return noise;
    }

    private static void Doors<TSource, T>()
        where TSource : unmanaged
        where T : unmanaged
    {
        const int Tokens = 7;
        var rotary = new RotaryEmbedding(new() { HeadDim = KeyDim });
        TSource[] keys = Elements.FromAll<TSource>(Noise(Tokens * KeyDim, 3)), values = Elements.FromAll<TSource>(Noise(Tokens * ValueDim, 4));
        float[] plain = [.. keys.Select(Elements.ToSingle)], rotated = [.. plain], expectedValues = [.. values.Select(Elements.ToSingle)];
        rotary.Apply(new TensorSpan<float>(rotated, [Tokens, Heads, KeyDim]), [.. Enumerable.Range(0, Tokens)]);
        Tensor<TSource> keyTensor = Tensor.Create(keys, [Tokens, Heads, KeyDim]), valueTensor = Tensor.Create(values, [Tokens, Heads, ValueDim]);
        byte[] want = [.. Quantized<T>(plain, KeyDim), .. Quantized<T>(expectedValues, ValueDim)], wantRotated = [.. Quantized<T>(rotated, KeyDim), .. Quantized<T>(expectedValues, ValueDim)];
        Check(want, (cache, sequence, _) => cache.Append<TSource>(sequence, keys, values), extends: false);
        Check(want, (cache, sequence, _) => cache.Append(sequence, keyTensor, valueTensor), extends: false);
        Check(want, (cache, sequence, _) => cache.Write<TSource>(0, sequence, 0, keys, values));
        Check(want, (cache, _, batch) => cache.Write<TSource>(0, batch, keys, values));
        Check(want, (cache, _, batch) => cache.Write(0, batch, keyTensor, valueTensor));
        Check(wantRotated, (cache, sequence, _) => cache.Append<TSource>(sequence, keys, values, rotary), extends: false);
        Check(wantRotated, (cache, _, batch) => cache.Write<TSource>(0, batch, keys, values, rotary));
        Check(wantRotated, (cache, sequence, _) => cache.Write(0, sequence, 0, keyTensor, valueTensor, rotary));

        // Elements that lie apart.
        TSource[] apart = new TSource[keys.Length];
        for (int i = 0; i < keys.Length; i++) apart[(i % KeyDim * Tokens * Heads) + (i / KeyDim)] = keys[i];
        Check(wantRotated, (cache, _, batch) => cache.Write(0, batch, new ReadOnlyTensorSpan<TSource>(apart, [Tokens, Heads, KeyDim], [Heads, 1, Tokens * Heads]), valueTensor.AsReadOnlyTensorSpan(), rotary));

        void Check(byte[] expected, Action<PagedKeyValueCache<T>, CacheSequence, PagedBatch> write, bool extends = true)
        {
            using var cache = new PagedKeyValueCache<T>(Options());
            CacheSequence sequence = cache.CreateSequence();
            PagedBatch batch = cache.CreateBatch();
            if (extends)
            {
                cache.Extend(sequence, Tokens);
                batch.Add(sequence, Tokens);
            }

            write(cache, sequence, batch);
            AssertSame(expected, Contents(cache, sequence));
        }
    }

    private static void Lives<T>()
        where T : unmanaged
    {
        using var cache = new PagedKeyValueCache<T>(Options());
        float[] keys = Noise(11 * KeyDim, 5), values = Noise(11 * ValueDim, 6), otherKeys = Noise(3 * KeyDim, 7), otherValues = Noise(3 * ValueDim, 8);
        CacheSequence first = cache.CreateSequence();
        cache.Append<float>(first, keys, values);
        byte[] expected = [.. Quantized<T>(keys, KeyDim), .. Quantized<T>(values, ValueDim)];
        CacheSequence fork = cache.Fork(first);
        AssertSame(expected, Contents(cache, fork));

        // Both write into the block that they shared, and one is cut and goes on.
        cache.Append<float>(fork, otherKeys, otherValues);
        AssertSame(expected, Contents(cache, first));
        AssertSame([.. Quantized<T>([.. keys, .. otherKeys], KeyDim), .. Quantized<T>([.. values, .. otherValues], ValueDim)], Contents(cache, fork));
        cache.Truncate(fork, 6);
        cache.Append<float>(fork, otherKeys, otherValues);
        int kept = 6 * Heads;
        AssertSame([.. Quantized<T>([.. keys[..(kept * KeyDim)], .. otherKeys], KeyDim), .. Quantized<T>([.. values[..(kept * ValueDim)], .. otherValues], ValueDim)], Contents(cache, fork));
        AssertSame(expected, Contents(cache, first));

        using var elsewhere = new PagedKeyValueCache<T>(Options() with { BlockSize = 3 });
        AssertSame(expected, Contents(elsewhere, elsewhere.Load(Saved(cache, first))));
    }

    private static void Attends<T>()
        where T : unmanaged
    {
        const int QueryHeads = 6, Tokens = 40;
        using var cache = new PagedKeyValueCache<T>(Options());
        CacheSequence sequence = cache.CreateSequence();
        float[] keys = Noise(Tokens * KeyDim, 9), values = Noise(Tokens * ValueDim, 10), query = new ProblemGenerator(11).Numbers(Tokens * QueryHeads * KeyDim, 1, AttentionElementType.Float32);
        cache.Append<float>(sequence, keys, values);
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        foreach (int queries in (int[])[1, Tokens])
        {
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, queries);
            Tensor<float> rows = Tensor.Create(query[..(queries * QueryHeads * KeyDim)], [queries, QueryHeads, KeyDim]), output = Tensor.CreateFromShape<float>([queries, QueryHeads, ValueDim]), expected = Tensor.CreateFromShape<float>([queries, QueryHeads, ValueDim]);
            Attention.ForwardPaged(rows, output, cache, 0, batch, options);
            (T[] keyCodes, float[] keyScales) = Codes<T>(keys, KeyDim);
            (T[] valueCodes, float[] valueScales) = Codes<T>(values, ValueDim);
            AttentionOperands operands = default;
            if (typeof(T) != typeof(Q8Block)) operands = new() { KeyScale = Tensor.Create(keyScales, [Tokens, Heads]), ValueScale = Tensor.Create(valueScales, [Tokens, Heads]) };
            Attention.Forward(
                rows, Tensor.Create(keyCodes, [Tokens, Heads, keyCodes.Length / Tokens / Heads]), Tensor.Create(valueCodes, [Tokens, Heads, valueCodes.Length / Tokens / Heads]), expected, options, operands);
            float[] actual = new float[output.FlattenedLength], wanted = new float[output.FlattenedLength];
            output.FlattenTo(actual);
            expected.FlattenTo(wanted);
            CallResult.AssertSameBits(wanted, actual, $"{typeof(T).Name}, {queries} queries");
            Assert.Contains(wanted, static x => x != 0);
        }
    }

    private static (T[] Codes, float[] Scales) Codes<T>(float[] rows, int dim)
        where T : unmanaged
    {
        float[] scales = new float[rows.Length / dim];
        if (typeof(T) == typeof(sbyte))
        {
            sbyte[] codes = new sbyte[rows.Length];
            KeyValueQuantization.ToInt8<float>(rows, dim, codes, scales);
            return ((T[])(object)codes, scales);
        }

        if (typeof(T) == typeof(Float8E4M3))
        {
            Float8E4M3[] codes = new Float8E4M3[rows.Length];
            KeyValueQuantization.ToFloat8<float>(rows, dim, codes, scales);
            return ((T[])(object)codes, scales);
        }

        Q8Block[] blocks = new Q8Block[rows.Length / 32];
        KeyValueQuantization.ToQ8Blocks<float>(rows, blocks);
        return ((T[])(object)blocks, []);
    }

    /// <summary>Codes and scales of rows as bytes.</summary>
    private static byte[] Quantized<T>(float[] rows, int dim)
        where T : unmanaged
    {
        (T[] codes, float[] scales) = Codes<T>(rows, dim);
        return [.. MemoryMarshal.AsBytes<T>(codes), .. MemoryMarshal.AsBytes<float>(typeof(T) == typeof(Q8Block) ? [] : scales)];
    }

    /// <summary>The same of a sequence: keys and their scales, then values and theirs, token by token.</summary>
    private static byte[] Contents<T>(PagedKeyValueCache<T> cache, CacheSequence sequence)
        where T : unmanaged
    {
        int length = cache.GetLength(sequence), size = cache.Options.BlockSize;
        int[] table = new int[(length + size - 1) / size];
        cache.CopyBlockTable(sequence, table);
        return [.. Read(cache.GetKeys()), .. Read(cache.GetKeyScales()), .. Read(cache.GetValues()), .. Read(cache.GetValueScales())];

        byte[] Read<TElement>(ReadOnlyTensorSpan<TElement> pool)
            where TElement : unmanaged
        {
            if (pool.IsEmpty) return [];
            TElement[] all = new TElement[pool.FlattenedLength];
            pool.FlattenTo(all);
            int slot = all.Length / cache.Options.Blocks / size;
            return [.. Enumerable.Range(0, length).SelectMany(t => MemoryMarshal.AsBytes(all.AsSpan(((table[t / size] * size) + (t % size)) * slot, slot)).ToArray())];
        }
    }

    private static MemoryStream Saved(KeyValueCache cache, CacheSequence sequence)
    {
        var stream = new MemoryStream();
        cache.Save(sequence, stream);
        stream.Position = 0;
        return stream;
    }

    private static void AssertSame(byte[] expected, byte[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        Assert.Equal(-1, Enumerable.Range(0, expected.Length).FirstOrDefault(i => expected[i] != actual[i], -1));
    }
}
