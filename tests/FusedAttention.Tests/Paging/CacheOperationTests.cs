using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests.Paging;

public sealed class CacheOperationTests
{
    [Fact]
    public void Append_takes_strided_tensors_of_every_kind()
    {
        // Three tokens, two heads, key dim 3, value dim 1, cut out of larger tensors: packed, heads outside of tokens, padded rows, every other element.
        const int Tokens = 3, Heads = 2, Dim = 3;
        var source = new float[200];
        for (int i = 0; i < source.Length; i++) source[i] = i;
        nint[][] strides = [[6, 3, 1], [3, 9, 1], [20, 5, 1], [40, 12, 2], [1, 30, 7]];
        foreach (nint[] s in strides)
        {
            using var cache = new PagedKeyValueCache<float>(Options(blockSize: 2, heads: Heads, keyDim: Dim, valueDim: 1));
            CacheSequence sequence = cache.CreateSequence();
            cache.Append(sequence, new ReadOnlyTensorSpan<float>(source, [Tokens, Heads, Dim], s), new ReadOnlyTensorSpan<float>(source, [Tokens, Heads, 1], [s[0], s[1], 0]));
            for (int t = 0; t < Tokens; t++)
            {
                for (int h = 0; h < Heads; h++)
                {
                    for (int d = 0; d < Dim; d++) Assert.Equal((t * s[0]) + (h * s[1]) + (d * s[2]), At(cache, cache.GetKeys(), sequence, t, h, d));
                    Assert.Equal((t * s[0]) + (h * s[1]), At(cache, cache.GetValues(), sequence, t, h, 0));
                }
            }
        }
    }

    [Fact]
    public void Append_takes_one_token_with_unit_dimensions()
    {
        using var cache = new PagedKeyValueCache<Half>(Options(blockSize: 4, heads: 1, keyDim: 1, valueDim: 1));
        CacheSequence sequence = cache.CreateSequence();
        Tensor<Half> one = Tensor.Create([(Half)7], [1, 1, 1]);
        Assert.Equal(0, cache.Append(sequence, one, one));
        Assert.Equal(1, cache.Append(sequence, [(Half)8], [(Half)9]));
        Assert.Equal((Half)8, At(cache, cache.GetKeys(), sequence, 1, 0, 0));
        Assert.Equal((Half)9, At(cache, cache.GetValues(), sequence, 1, 0, 0));
    }

    [Fact]
    public void Long_appends_pass_through_many_blocks_at_once()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 300, blockSize: 1));
        CacheSequence sequence = cache.CreateSequence();
        cache.Append(sequence, [-1], [-1]);
        float[] rows = Enumerable.Range(0, 299).Select(static i => (float)i).ToArray();
        Assert.Equal(1, cache.Append(sequence, rows, rows));
        for (int p = 0; p < 299; p++) Assert.Equal(p, At(cache, cache.GetKeys(), sequence, p + 1, 0, 0));
        Assert.Equal(0, cache.FreeBlocks);
    }

    [Fact]
    public void Views_have_the_shape_that_paged_attention_wants_and_begin_at_cache_lines()
    {
        PagedKeyValueCacheOptions options = Options(blocks: 5, blockSize: 3, heads: 1, keyDim: 7, valueDim: 2, layers: 3);
        using var cache = new PagedKeyValueCache<BFloat16>(options);
        for (int layer = 0; layer < 3; layer++)
        {
            Assert.Equal<nint>([5, 3, 1, 7], cache.GetKeys(layer).Lengths.ToArray());
            Assert.Equal<nint>([5, 3, 1, 2], cache.GetValues(layer).Lengths.ToArray());
            Assert.Equal<nint>([21, 7, 0, 1], cache.GetKeys(layer).Strides.ToArray());
            Assert.Equal(0, AddressOf(cache.GetKeys(layer)) % 64);
            Assert.Equal(0, AddressOf(cache.GetValues(layer)) % 64);
        }

        Assert.Equal(3 * (256 + 64), cache.Bytes);
        Assert.Equal(options, cache.Options);
        Assert.Equal(7, Options(keyDim: 7).ValueDim);

        static unsafe long AddressOf(in ReadOnlyTensorSpan<BFloat16> span)
        {
            fixed (BFloat16* first = span) return (long)first;
        }
    }

    [Fact]
    public void Fork_shares_the_partial_block_until_somebody_writes()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 4, blockSize: 4));
        CacheSequence a = cache.CreateSequence();
        cache.Append(a, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]);
        CacheSequence b = cache.Fork(a);
        Assert.Equal((2, 2), (cache.UsedBlocks, cache.FreeBlocks));
        Assert.Equal(Table(cache, a), Table(cache, b));
        Assert.Equal(1, cache.GetBlocksNeeded(a, 1));
        Assert.Equal(2, cache.GetBlocksNeeded(a, 3));
        Assert.Equal(0, cache.GetBlocksNeeded(a, 0));

        cache.Append(b, [60], [60]);
        Assert.Equal((3, 1), (cache.UsedBlocks, cache.FreeBlocks));
        Assert.Equal(0, cache.GetBlocksNeeded(a, 1));
        cache.Append(a, [6], [6]);
        Assert.Equal((3, 1), (cache.UsedBlocks, cache.FreeBlocks));
        Assert.Equal(Table(cache, a)[0], Table(cache, b)[0]);
        Assert.Equal([0, 1, 2, 3, 4, 5, 6], Contents(cache, a));
        Assert.Equal([0, 1, 2, 3, 4, 5, 60], Contents(cache, b));

        cache.Write(0, b, 1, [10], [10]);
        Assert.Equal([0, 1, 2, 3, 4, 5, 6], Contents(cache, a));
        Assert.Equal([0, 10, 2, 3, 4, 5, 60], Contents(cache, b));
        Assert.Equal(0, cache.FreeBlocks);
    }

    [Fact]
    public void Copy_on_write_copies_every_layer()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 4, blockSize: 4, layers: 3));
        CacheSequence a = cache.CreateSequence();
        cache.Extend(a, 2);
        for (int layer = 0; layer < 3; layer++) cache.Write(layer, a, 0, [layer, layer + 10], [layer, layer + 10]);
        CacheSequence b = cache.Fork(a);
        cache.Write(1, b, 1, [99], [99]);
        Assert.Equal(2, cache.Extend(a, 1));
        for (int layer = 0; layer < 3; layer++)
        {
            cache.Write(layer, a, 2, [7], [7]);
            Assert.Equal([layer, layer + 10, 7], Contents(cache, a, layer));
            Assert.Equal([layer, layer == 1 ? 99 : layer + 10], Contents(cache, b, layer));
        }
    }

    [Fact]
    public void Dropped_blocks_are_free_and_positions_stay()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 4, blockSize: 2));
        CacheSequence s = cache.CreateSequence();
        for (int p = 0; p < 100; p++)
        {
            cache.Append(s, [p], [p]);
            cache.DropBefore(s, Math.Max(0, p - 3));
            Assert.InRange(cache.UsedBlocks, 1, 3);
        }

        Assert.Equal(100, cache.GetLength(s));
        Assert.Equal(96, cache.GetFirstPosition(s));
        Assert.Equal([.. Enumerable.Repeat(-1, 48), .. Table(cache, s)[48..]], Table(cache, s));
        Assert.All(Table(cache, s)[48..], static block => Assert.InRange(block, 0, 3));
        Assert.Equal(99, At(cache, cache.GetKeys(), s, 99, 0, 0));

        CacheSequence fork = cache.Fork(s);
        Assert.Equal(Table(cache, s), Table(cache, fork));
        cache.Truncate(fork, 0);
        Assert.Equal(0, cache.GetFirstPosition(fork));
        Assert.Equal(0, cache.Append(fork, [1], [1]));
        cache.DropBefore(s, 100);
        Assert.Equal(1, cache.UsedBlocks);
        cache.Append(s, [100], [100]);
        Assert.Equal(100, At(cache, cache.GetKeys(), s, 100, 0, 0));
    }

    [Fact]
    public void Running_out_of_blocks_changes_nothing()
    {
        using var cache = new PagedKeyValueCache<float>(Options(blocks: 3, blockSize: 2));
        CacheSequence a = cache.CreateSequence();
        cache.Append(a, [0, 1, 2], [0, 1, 2]);
        CacheSequence b = cache.Fork(a);
        int[] table = Table(cache, a);

        OutOfBlocksException e = Assert.Throws<OutOfBlocksException>(() => cache.Append(b, [3, 4, 5, 6, 7], [3, 4, 5, 6, 7]));
        Assert.Equal((3, 1), (e.Needed, e.Free));
        Assert.Equal("3 more blocks are needed, but only 1 of the cache's 3 are free. Nothing was changed.", e.Message);
        Assert.Throws<OutOfBlocksException>(() => cache.Extend(a, int.MaxValue - 3));
        Assert.Throws<OutOfBlocksException>(() => cache.Write(0, b, 0, [7, 7, 7], [7, 7, 7]));
        Assert.Equal(table, Table(cache, a));
        Assert.Equal(table, Table(cache, b));
        Assert.Equal([0, 1, 2], Contents(cache, a));
        Assert.Equal([0, 1, 2], Contents(cache, b));
        Assert.Equal((2, 1), (cache.UsedBlocks, cache.FreeBlocks));

        cache.Append(b, [3], [3]);
        Assert.Equal("1 more block is needed, but only 0 of the cache's 3 are free. Nothing was changed.", Assert.Throws<OutOfBlocksException>(() => cache.Append(b, [4], [4])).Message);
        cache.Free(a);
        cache.Append(b, [4], [4]);
        Assert.Equal([0, 1, 2, 3, 4], Contents(cache, b));
    }

    internal static PagedKeyValueCacheOptions Options(int blocks = 8, int blockSize = 2, int heads = 1, int keyDim = 1, int? valueDim = null, int layers = 1) =>
        new() { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = heads, KeyDim = keyDim, ValueDim = valueDim ?? keyDim, Layers = layers };

    internal static int[] Table<T>(PagedKeyValueCache<T> cache, CacheSequence sequence)
        where T : unmanaged
    {
        var table = new int[cache.CopyBlockTable(sequence, [])];
        cache.CopyBlockTable(sequence, table);
        return table;
    }

    internal static float[] Contents(PagedKeyValueCache<float> cache, CacheSequence sequence, int layer = 0)
    {
        var contents = new float[cache.GetLength(sequence)];
        for (int p = 0; p < contents.Length; p++)
        {
            contents[p] = At(cache, cache.GetKeys(layer), sequence, p, 0, 0);
            Assert.Equal(contents[p], At(cache, cache.GetValues(layer), sequence, p, 0, 0));
        }

        return contents;
    }

    private static T At<T>(PagedKeyValueCache<T> cache, ReadOnlyTensorSpan<T> view, CacheSequence sequence, int position, int head, int element)
        where T : unmanaged
    {
        int size = cache.Options.BlockSize;
        return view[Table(cache, sequence)[position / size], position % size, head, element];
    }
}
