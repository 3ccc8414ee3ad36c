using System.Numerics.Tensors;
using Xunit;
using static FusedAttention.Tests.Paging.CacheOperationTests;

namespace FusedAttention.Tests.Paging;

public sealed class CacheErrorTests
{
    public static TheoryData<string, string, Action<PagedKeyValueCache<float>, CacheSequence>> Mistakes { get; } = new()
    {
        // The sequence has 5 tokens in blocks of 2, the first block dropped; 2 heads, key dim 3, value dim 1, two layers.
        { "layer", "The cache has 2 layers; layer must be from 0 to 1.", static (c, s) => c.GetKeys(2) },
        { "layer", "The cache has 2 layers; layer must be from 0 to 1.", static (c, s) => c.GetValues(-1) },
        { "layer", "The cache has 2 layers; layer must be from 0 to 1.", static (c, s) => c.Write(2, s, 2, new float[6], new float[2]) },
        { "tokens", "must be a non-negative value", static (c, s) => c.Extend(s, -1) },
        { "tokens", "must be a non-negative value", static (c, s) => c.GetBlocksNeeded(s, -1) },
        { "tokens", "{s} has 5 tokens; with 2147483647 more it would pass the longest length, 2147483647.", static (c, s) => c.Extend(s, int.MaxValue) },
        { "length", "{s} has 5 tokens; it cannot be truncated to 6.", static (c, s) => c.Truncate(s, 6) },
        { "length", "{s} has 5 tokens; it cannot be truncated to -1.", static (c, s) => c.Truncate(s, -1) },
        { "length", "{s} has dropped its tokens before position 2; it can be truncated to 0 or to 2 and more, not to 1.", static (c, s) => c.Truncate(s, 1) },
        { "position", "{s} has 5 tokens; there is no position 6 to drop them before.", static (c, s) => c.DropBefore(s, 6) },
        { "position", "{s} has 5 tokens; there is no position -1 to drop them before.", static (c, s) => c.DropBefore(s, -1) },
        { "position", "{s} has 5 tokens; 1 at position 5 do not lie within them.", static (c, s) => c.Write(0, s, 5, new float[6], new float[2]) },
        { "position", "{s} has 5 tokens; 2 at position 4 do not lie within them.", static (c, s) => c.Write(0, s, 4, new float[12], new float[4]) },
        { "position", "{s} has 5 tokens; 1 at position -1 do not lie within them.", static (c, s) => c.Write(0, s, -1, new float[6], new float[2]) },
        { "position", "{s} has dropped its tokens before position 2; position 1 cannot be written.", static (c, s) => c.Write(0, s, 1, new float[6], new float[2]) },
        { "keys", "keys has 5 elements, which is not a multiple of KeyValueHeads x KeyDim = 2 x 3.", static (c, s) => c.Write(0, s, 2, new float[5], new float[2]) },
        { "values", "values has 3 elements, but must have 1 x 2 x 1, as keys has 1 tokens.", static (c, s) => c.Write(0, s, 2, new float[6], new float[3]) },
        { "keys", "keys is [1, 3, 2], but must be [tokens, 2, 3] for this cache.", static (c, s) => c.Write(0, s, 2, Rows(1, 3, 2), Rows(1, 2, 1)) },
        { "keys", "keys is [2, 3], but must be [tokens, 2, 3] for this cache.", static (c, s) => c.Write(0, s, 2, Tensor.Create(new float[6], [2, 3]), Rows(1, 2, 1)) },
        { "values", "values is [1, 2, 3], but must be [tokens, 2, 1] for this cache.", static (c, s) => c.Write(0, s, 2, Rows(1, 2, 3), Rows(1, 2, 3)) },
        { "values", "values is [2, 2, 1] and keys is [1, 2, 3]: both must have the same number of tokens.", static (c, s) => c.Write(0, s, 2, Rows(1, 2, 3), Rows(2, 2, 1)) },
        { "tokens", "6 tokens were given, but {s} has only 5.", static (c, s) => c.Publish(s, new int[6]) },
        { "sequence", "The handle is default(CacheSequence), which names no sequence: CreateSequence or Fork makes one.", static (c, s) => c.GetLength(default) },
        { "queryTokens", "must be a non-negative value", static (c, s) => c.CreateBatch().Add(s, -1) },
        { "queryTokens", "The batch has 1 query tokens; 2147483647 more would pass 2147483647.", static (c, s) => Twice(c.CreateBatch(), s) },
    };

    [Theory]
    [MemberData(nameof(Mistakes), DisableDiscoveryEnumeration = true)]
    public void Mistakes_are_named_and_change_nothing(string argument, string message, Action<PagedKeyValueCache<float>, CacheSequence> mistake)
    {
        using var cache = new PagedKeyValueCache<float>(Options(blockSize: 2, heads: 2, keyDim: 3, valueDim: 1, layers: 2));
        CacheSequence sequence = cache.CreateSequence();
        cache.Extend(sequence, 5);
        cache.DropBefore(sequence, 3);
        int[] table = Table(cache, sequence);

        ArgumentException e = Assert.ThrowsAny<ArgumentException>(() => mistake(cache, sequence));
        Assert.Equal(argument, e.ParamName);
        Assert.Contains(message.Replace("{s}", sequence.ToString(), StringComparison.Ordinal), e.Message, StringComparison.Ordinal);
        Assert.Equal(5, cache.GetLength(sequence));
        Assert.Equal(table, Table(cache, sequence));
        Assert.Equal((2, 6), (cache.UsedBlocks, cache.FreeBlocks));
    }

    [Fact]
    public void Stale_and_foreign_handles_are_refused_everywhere()
    {
        using var cache = new PagedKeyValueCache<float>(Options());
        using var other = new PagedKeyValueCache<float>(Options());
        CacheSequence freed = cache.CreateSequence(), foreign = other.CreateSequence();
        cache.Free(freed);
        CacheSequence successor = cache.CreateSequence();
        Assert.Equal(freed.Id, successor.Id);
        Assert.NotEqual(freed, successor);
        foreach (CacheSequence stale in new[] { freed, foreign, default })
        {
            Assert.False(cache.Contains(stale));
            Action[] uses =
            [
                () => cache.Append(stale, [1], [1]), () => cache.Extend(stale, 1), () => cache.Write(0, stale, 0, [], []), () => cache.Fork(stale), () => cache.Truncate(stale, 0),
                () => cache.DropBefore(stale, 0), () => cache.Free(stale), () => cache.GetLength(stale), () => cache.GetFirstPosition(stale), () => cache.GetBlocksNeeded(stale, 1),
                () => cache.CopyBlockTable(stale, new int[4]), () => cache.Publish(stale, []), () => cache.CreateBatch().Add(stale, 1),
            ];
            foreach (Action use in uses)
            {
                ArgumentException e = Assert.Throws<ArgumentException>(use);
                Assert.Equal("sequence", e.ParamName);
                if (stale != default) Assert.StartsWith($"The handle names {stale}, which is not in this cache: it was freed, or belongs to another cache.", e.Message, StringComparison.Ordinal);
            }
        }

        Assert.Equal(0, cache.GetLength(successor));
        Assert.Equal("no sequence", default(CacheSequence).ToString());
        Assert.Equal($"sequence {successor.Id} (generation {successor.Generation})", successor.ToString());
    }

    [Fact]
    public void A_disposed_cache_refuses_everything()
    {
        var cache = new PagedKeyValueCache<float>(Options());
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        cache.Dispose();
        cache.Dispose();
        Action[] uses =
        [
            () => cache.CreateSequence(), () => cache.CreateSequence([1, 2], out _), () => cache.Append(sequence, [1], [1]), () => cache.Extend(sequence, 1), () => cache.Write(0, sequence, 0, [], []),
            () => cache.Fork(sequence), () => cache.Truncate(sequence, 0), () => cache.DropBefore(sequence, 0), () => cache.Free(sequence), () => cache.GetLength(sequence),
            () => cache.GetFirstPosition(sequence), () => cache.GetBlocksNeeded(sequence, 1), () => cache.CopyBlockTable(sequence, new int[4]), () => cache.Publish(sequence, []),
            () => cache.ForgetPrefixes(), () => cache.GetKeys(), () => cache.GetValues(), () => batch.Add(sequence, 1),
        ];
        foreach (Action use in uses) Assert.Contains("PagedKeyValueCache", Assert.Throws<ObjectDisposedException>(use).ObjectName, StringComparison.Ordinal);
        Assert.False(cache.Contains(sequence));
    }

    [Fact]
    public void Sizes_are_checked()
    {
        Assert.Equal("Blocks must be 1 or more. (Parameter 'Blocks')\nActual value was 0.", Message(() => Options(blocks: 0)));
        Assert.Equal("BlockSize", Parameter(() => Options(blockSize: 0)));
        Assert.Equal("KeyValueHeads", Parameter(() => Options(heads: -1)));
        Assert.Equal("KeyDim", Parameter(() => Options(keyDim: 0)));
        Assert.Equal("ValueDim", Parameter(() => Options(valueDim: 0)));
        Assert.Equal("Layers", Parameter(() => Options(layers: 0)));
        Assert.Equal("options", Parameter(() => _ = new PagedKeyValueCache<float>(null!)));

        PagedKeyValueCacheOptions huge = Options(int.MaxValue, int.MaxValue, 8, 128);
        ArgumentException e = Assert.Throws<ArgumentException>(() => new PagedKeyValueCache<float>(huge));
        Assert.Equal("options", e.ParamName);
        Assert.Contains("A cache of these sizes does not fit the address space", e.Message, StringComparison.Ordinal);
        Assert.Contains("Blocks = 2147483647", e.Message, StringComparison.Ordinal);
        Assert.Equal("A cache holds float, Half, BFloat16, sbyte, Float8E4M3 or Q8Block, not System.Double.", Assert.Throws<NotSupportedException>(() => new PagedKeyValueCache<double>(Options())).Message);

        static string Message(Action action) => Assert.ThrowsAny<ArgumentException>(action).Message.ReplaceLineEndings("\n");
        static string? Parameter(Action action) => Assert.ThrowsAny<ArgumentException>(action).ParamName;
    }

    [Fact]
    public void Append_is_for_one_layer()
    {
        using var cache = new PagedKeyValueCache<float>(Options(layers: 4));
        CacheSequence sequence = cache.CreateSequence();
        InvalidOperationException e = Assert.Throws<InvalidOperationException>(() => cache.Append(sequence, [1], [1]));
        Assert.Equal("Append is for caches with one layer, and this one has 4: call Extend once, then Write for each layer.", e.Message);
        Assert.Equal(0, cache.GetLength(sequence));
    }

    private static Tensor<float> Rows(int tokens, int heads, int dim) => Tensor.Create(new float[tokens * heads * dim], [tokens, heads, dim]);

    private static void Twice(PagedBatch batch, CacheSequence sequence)
    {
        batch.Add(sequence, 1);
        batch.Add(sequence, int.MaxValue);
    }
}
