using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

/// <summary>Sequences that go into a stream and come back, there or elsewhere.</summary>
public sealed class SavedSequenceTests
{
    private const int Heads = 2, KeyDim = 3, ValueDim = 5, Layers = 2;

    /// <summary>Lengths about a block's end, blocks of other sizes, and every pattern of bits that 16 bits have, NaN with payloads among them.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(4000)]
    public void A_sequence_comes_back_bit_by_bit(int tokens)
    {
        RoundTrip<float>(tokens);
        RoundTrip<Half>(tokens);
        RoundTrip<BFloat16>(tokens);
    }

    /// <summary>A token of a layer takes 384 KiB: two are a piece.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(6)]
    [InlineData(7)]
    public void Pieces_join(int tokens)
    {
        using var from = new PagedKeyValueCache<Half>(Options(blocks: 4, blockSize: 3, heads: 3, keyDim: 1 << 15, valueDim: 1 << 15, layers: 2));
        using var to = new PagedKeyValueCache<Half>(Options(blocks: 8, blockSize: 1, heads: 3, keyDim: 1 << 15, valueDim: 1 << 15, layers: 2));
        CacheSequence sequence = Fill(from, tokens, seed: 1);
        Assert.Equal(Contents(from, sequence), Contents(to, to.Load(Saved(from, sequence))));
    }

    [Fact]
    public void Other_element_types_are_rounded_as_by_Write()
    {
        float[] keys = [1, 1 + MathF.Pow(2, -11), 1e-8f, 70000, -3.3333333f, float.NaN], values = [.. keys.Select(static x => -x)];
        using var floats = new PagedKeyValueCache<float>(Options(blocks: 8));
        using var halves = new PagedKeyValueCache<Half>(Options(blocks: 16));
        CacheSequence sequence = floats.CreateSequence(), written = halves.CreateSequence();
        floats.Append(sequence, keys, values);
        halves.Append<float>(written, keys, values);
        Assert.Equal(Contents(halves, written), Contents(halves, halves.Load(Saved(floats, sequence))));
    }

    [Fact]
    public void Dropped_tokens_stay_dropped_and_take_no_block()
    {
        using var from = new PagedKeyValueCache<float>(Options(blocks: 10, blockSize: 4));
        using var to = new PagedKeyValueCache<float>(Options(blocks: 7, blockSize: 2));
        CacheSequence sequence = from.CreateSequence();
        from.Append(sequence, Numbers(23), Numbers(23));
        from.DropBefore(sequence, 14);
        CacheSequence loaded = to.Load(Saved(from, sequence));
        Assert.Equal((23, 12, 6), (to.GetLength(loaded), to.GetFirstPosition(loaded), to.UsedBlocks));
        Assert.Equal(from.GetFirstPosition(sequence), to.GetFirstPosition(loaded));

        // It goes on as the old one does, with the same results.
        from.Append(sequence, [5], [6]);
        to.Append(loaded, [5], [6]);
        Assert.Equal(Attend(from, sequence), Attend(to, loaded));
        to.Truncate(loaded, 0);
        Assert.Equal((0, 0), (to.GetFirstPosition(loaded), to.UsedBlocks));

        static float[] Attend(PagedKeyValueCache<float> cache, CacheSequence sequence)
        {
            PagedBatch batch = cache.CreateBatch();
            batch.Add(sequence, 1);
            Tensor<float> query = Tensor.Create([0.3f], [1, 1, 1]), output = Tensor.CreateFromShape<float>([1, 1, 1]);
            Attention.ForwardPaged(query, output, cache, 0, batch, new AttentionOptions { Mask = AttentionMask.CausalWindow(9) });
            return output.ToArray();
        }
    }

    [Fact]
    public void Dropped_tokens_that_end_within_a_block_are_refused()
    {
        using var from = new PagedKeyValueCache<float>(Options(blocks: 10, blockSize: 3));
        using var to = new PagedKeyValueCache<float>(Options(blocks: 10, blockSize: 2));
        CacheSequence sequence = from.CreateSequence();
        from.Append(sequence, Numbers(8), Numbers(8));
        from.DropBefore(sequence, 4);
        Assert.Equal(
            "The saved sequence has dropped its tokens before position 3, where no block of 2 tokens begins.", Assert.Throws<InvalidDataException>(() => to.Load(Saved(from, sequence))).Message);
        Assert.Equal((0, 0), (to.SequenceCount, to.UsedBlocks));
    }

    [Fact]
    public void Sequences_follow_one_another_in_a_stream_that_cannot_seek()
    {
        using PagedKeyValueCache<Half> from = Create<Half>(), to = Create<Half>(blockSize: 16);
        CacheSequence a = Fill(from, 7, seed: 1), b = from.Fork(a), c = Fill(from, 0, seed: 2);
        from.Extend(b, 2);
        var stream = new MemoryStream();
        foreach (CacheSequence sequence in (CacheSequence[])[a, b, c]) from.Save(sequence, new Trickle(stream));
        stream.WriteByte(99);
        stream.Position = 0;
        foreach (CacheSequence sequence in (CacheSequence[])[a, b, c]) Assert.Equal(Contents(from, sequence), Contents(to, to.Load(new Trickle(stream))));
        Assert.Equal(99, stream.ReadByte());
    }

    [Fact]
    public void What_was_loaded_can_be_published()
    {
        using PagedKeyValueCache<float> from = Create<float>(), to = Create<float>();
        CacheSequence sequence = Fill(from, 9, seed: 3), loaded = to.Load(Saved(from, sequence));
        int[] tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        to.Publish(loaded, tokens);
        to.Free(loaded);
        to.CreateSequence(tokens, out int cached);
        Assert.Equal(8, cached);
    }

    [Fact]
    public async Task Threads_are_not_held()
    {
        CancellationToken token = TestContext.Current.CancellationToken;
        using PagedKeyValueCache<BFloat16> from = Create<BFloat16>(), to = Create<BFloat16>(blockSize: 1);
        CacheSequence sequence = Fill(from, 11, seed: 4);
        var stream = new MemoryStream();
        await from.SaveAsync(sequence, new Trickle(stream), token);
        Assert.Equal(Saved(from, sequence).ToArray(), stream.ToArray());
        stream.Position = 0;
        Assert.Equal(Contents(from, sequence), Contents(to, await to.LoadAsync(new Trickle(stream), token)));
    }

    [Fact]
    public async Task A_cancelled_load_leaves_nothing()
    {
        using PagedKeyValueCache<float> from = Create<float>(), to = Create<float>();
        MemoryStream stream = Saved(from, Fill(from, 11, seed: 4));
        using var source = new CancellationTokenSource();
        var slow = new Trickle(stream) { OnRead = () => { if (stream.Position > 80) source.Cancel(); } };
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => to.LoadAsync(slow, source.Token));
        Assert.Equal((0, 0), (to.SequenceCount, to.UsedBlocks));
    }

    [Fact]
    public void A_stream_that_ends_early_leaves_nothing()
    {
        using PagedKeyValueCache<float> from = Create<float>(), to = Create<float>();
        byte[] whole = Saved(from, Fill(from, 5, seed: 5)).ToArray();
        Assert.Equal(64 + (Layers * Heads * (KeyDim + ValueDim) * 5 * sizeof(float)), whole.Length);
        for (int length = 0; length < whole.Length; length += 7)
        {
            Assert.Throws<EndOfStreamException>(() => to.Load(new MemoryStream(whole, 0, length)));
            Assert.Equal((0, 0), (to.SequenceCount, to.UsedBlocks));
        }
    }

    [Fact]
    public void A_pool_that_is_too_small_is_left_as_it_is()
    {
        using PagedKeyValueCache<float> from = Create<float>(), to = new(Sizes(blocks: 4, blockSize: 2));
        MemoryStream stream = Saved(from, Fill(from, 9, seed: 5));
        Assert.Throws<OutOfBlocksException>(() => to.Load(stream));
        Assert.Equal((0, 0, 4), (to.SequenceCount, to.UsedBlocks, to.FreeBlocks));
    }

    [Fact]
    public void Other_sizes_are_refused_with_both()
    {
        using PagedKeyValueCache<float> from = Create<float>();
        CacheSequence sequence = Fill(from, 2, seed: 1);
        PagedKeyValueCacheOptions sizes = Sizes(8, 4);
        foreach (PagedKeyValueCacheOptions other in (PagedKeyValueCacheOptions[])[sizes with { Layers = 1 }, sizes with { KeyValueHeads = 4 }, sizes with { KeyDim = 5 }, sizes with { ValueDim = 3 }])
        {
            using var to = new PagedKeyValueCache<float>(other);
            Assert.Equal(
                "The saved sequence has 2 layers, 2 key/value heads, key dim 3 and value dim 5; " +
                $"this cache has {other.Layers}, {other.KeyValueHeads}, {other.KeyDim} and {other.ValueDim}.",
                Assert.Throws<InvalidDataException>(() => to.Load(Saved(from, sequence))).Message);
            Assert.Equal(0, to.SequenceCount);
        }
    }

    /// <summary>What was saved by an earlier version must be read by a later one: the bytes are as the remarks of the format say.</summary>
    [Fact]
    public void The_bytes_are_those_of_the_format()
    {
        using var cache = new PagedKeyValueCache<Half>(Options(blocks: 3, blockSize: 1));
        CacheSequence sequence = cache.CreateSequence();
        cache.Append<float>(sequence, [9, 1, 2], [9, 3, 4]);
        cache.DropBefore(sequence, 1);
        Assert.Equal(
            "46414B5653455131" + "02000000" + "01000000" + "01000000" + "01000000" + "01000000" + "01000000" + "03000000" + new string('0', 2 * 28) + "003C0040" + "00420044",
            Convert.ToHexString(Saved(cache, sequence).ToArray()));
    }

    [Theory]
    [InlineData(0, "The stream does not hold a saved sequence: it does not begin with FAKVSEQ1.")]
    [InlineData(8, "The saved sequence is of element type 77, which this version does not know.")]
    [InlineData(28, "The saved sequence has 5 tokens and starts at position 77: the stream is damaged.")]
    [InlineData(35, "The saved sequence has 1291845637 tokens", typeof(OutOfBlocksException))]
    public void Damaged_heads_are_refused(int at, string message, Type? type = null)
    {
        using PagedKeyValueCache<float> from = Create<float>(), to = Create<float>();
        byte[] bytes = Saved(from, Fill(from, 5, seed: 5)).ToArray();
        bytes[at] = 77;
        Exception thrown = Assert.Throws(type ?? typeof(InvalidDataException), () => to.Load(new MemoryStream(bytes)));
        if (type is null) Assert.Equal(message, thrown.Message);
        Assert.Equal((0, 0), (to.SequenceCount, to.UsedBlocks));
    }

    [Fact]
    public void Stale_handles_and_closed_caches_are_refused()
    {
        PagedKeyValueCache<float> cache = Create<float>();
        CacheSequence sequence = Fill(cache, 2, seed: 1);
        MemoryStream saved = Saved(cache, sequence);
        cache.Free(sequence);
        var stream = new MemoryStream();
        Assert.Throws<ArgumentException>(() => cache.Save(sequence, stream));
        Assert.Throws<ArgumentNullException>("destination", () => cache.Save(sequence, null!));
        Assert.Throws<ArgumentNullException>("source", () => cache.Load(null!));
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => cache.Save(sequence, stream));
        Assert.Throws<ObjectDisposedException>(() => cache.Load(saved));
        Assert.Equal(0, stream.Length);
    }

    private static void RoundTrip<T>(int tokens)
        where T : unmanaged
    {
        using PagedKeyValueCache<T> from = Create<T>(blocks: 1500), to = Create<T>(blocks: 1500, blockSize: 7);
        CacheSequence other = Fill(from, 2, seed: 9), sequence = Fill(from, tokens, seed: 1);
        from.Free(other);
        if (tokens > 4) from.Write(1, sequence, tokens - 4, Bits<T>(4 * Heads * KeyDim, seed: 5), Bits<T>(4 * Heads * ValueDim, seed: 6));
        CacheSequence loaded = to.Load(Saved(from, sequence));
        Assert.Equal(tokens, to.GetLength(loaded));
        Assert.Equal(Contents(from, sequence), Contents(to, loaded));
    }

    private static PagedKeyValueCache<T> Create<T>(int blocks = 32, int blockSize = 4)
        where T : unmanaged => new(Sizes(blocks, blockSize));

    private static PagedKeyValueCacheOptions Sizes(int blocks, int blockSize) => Options(blocks, blockSize, Heads, KeyDim, ValueDim, Layers);

    private static float[] Numbers(int count) => [.. Enumerable.Range(1, count).Select(static i => i / 7f)];

    private static T[] Bits<T>(int count, int seed)
        where T : unmanaged
    {
        var rows = new T[count];
        new Random(seed).NextBytes(MemoryMarshal.AsBytes(rows.AsSpan()));
        return rows;
    }

    private static CacheSequence Fill<T>(PagedKeyValueCache<T> cache, int tokens, int seed)
        where T : unmanaged
    {
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, tokens);
        PagedKeyValueCacheOptions sizes = cache.Options;
        for (int layer = 0; layer < sizes.Layers; layer++)
            cache.Write(layer, sequence, 0, Bits<T>(tokens * sizes.KeyValueHeads * sizes.KeyDim, (seed * 10) + layer), Bits<T>(tokens * sizes.KeyValueHeads * sizes.ValueDim, (seed * 10) + 5 + layer));
        return sequence;
    }

    private static MemoryStream Saved(KeyValueCache cache, CacheSequence sequence)
    {
        var stream = new MemoryStream();
        cache.Save(sequence, stream);
        stream.Position = 0;
        return stream;
    }

    /// <summary>The bytes of all layers, keys and values, by position, through the views and the block table.</summary>
    private static byte[] Contents<T>(PagedKeyValueCache<T> cache, CacheSequence sequence)
        where T : unmanaged
    {
        int[] table = Table(cache, sequence);
        var contents = new List<byte>();
        for (int layer = 0; layer < cache.Options.Layers; layer++)
        {
            Add(cache.GetKeys(layer));
            Add(cache.GetValues(layer));
        }

        return [.. contents];

        void Add(ReadOnlyTensorSpan<T> plane)
        {
            var row = new T[(int)(plane.Lengths[2] * plane.Lengths[3])];
            for (int position = cache.GetFirstPosition(sequence); position < cache.GetLength(sequence); position++)
            {
                int block = table[position / cache.Options.BlockSize], slot = position % cache.Options.BlockSize;
                plane.Slice([new NRange(block, block + 1), new NRange(slot, slot + 1), NRange.All, NRange.All]).FlattenTo(row);
                contents.AddRange(MemoryMarshal.AsBytes(row.AsSpan()));
            }
        }
    }

    /// <summary>A stream as a network gives it: forward only, a few bytes at a time.</summary>
    private sealed class Trickle(Stream inner) : Stream
    {
        public Action? OnRead { get; init; }

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count)
        {
            OnRead?.Invoke();
            return inner.Read(buffer, offset, Math.Min(count, 5));
        }

        public override void Write(byte[] buffer, int offset, int count) => inner.Write(buffer, offset, count);

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
