using Xunit;

namespace FusedAttention.Tests.Paging;

public sealed class CachePropertyTests
{
    // Small alphabets make prompts coincide often; small pools run out often; one bucket makes every hash collide.
    [Slow]
    [Theory]
    [InlineData(1, 24, 1, 2, 0, 20_000)]
    [InlineData(2, 16, 1, 2, 1, 20_000)]
    [InlineData(3, 16, 2, 1, 0, 20_000)]
    [InlineData(4, 14, 1, 2, 1, 20_000)]
    [InlineData(16, 8, 3, 1, 0, 10_000)]
    public void Random_operations_agree_with_a_naive_model(int blockSize, int blocks, int layers, int alphabet, int prefixBuckets, int steps)
    {
        var options = new PagedKeyValueCacheOptions { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = 2, KeyDim = 3, ValueDim = 2, Layers = layers };
        using var model = new CacheModel(options, seed: (blockSize * 1000) + blocks, alphabet, prefixBuckets);
        for (int step = 0; step < steps; step++)
        {
            model.Step();
            if (step % 5 == 0) model.Check();
        }

        // The run is only worth something if it has been everywhere.
        Assert.True(model.Exhausted > 100, $"exhausted {model.Exhausted} times");
        Assert.True(model.PrefixHits > 50, $"{model.PrefixHits} prefix hits");
        Assert.True(model.CopiesOnWrite > 50 || blockSize == 1, $"{model.CopiesOnWrite} copies on write");
        Assert.True(model.StaleOffers > 50, $"{model.StaleOffers} stale offers");
        Assert.True(model.RecomputedOffers > 5, $"{model.RecomputedOffers} offers of what was computed again");
        Assert.True(model.SharedInStep > 50, $"{model.SharedInStep} blocks shared in a step");

        while (model.Living.Count > 0) model.Free(model.Living.Count / 2);
        model.Check();
        Assert.Equal(0, model.Cache.UsedBlocks);
        Assert.Equal(blocks, model.Cache.FreeBlocks);
        CacheSequence last = model.Cache.CreateSequence();
        model.Cache.Extend(last, blocks * blockSize);
        Assert.Equal((0, 0), (model.Cache.FreeBlocks, model.Cache.KeptBlocks));
        model.Cache.Free(last);
        Assert.Equal(blocks, model.Cache.FreeBlocks);
    }

    [Fact]
    public void The_same_calls_give_the_same_blocks()
    {
        Assert.Equal(Run(), Run());

        static List<int> Run()
        {
            var options = new PagedKeyValueCacheOptions { Blocks = 20, BlockSize = 2, KeyValueHeads = 1, KeyDim = 1 };
            using var model = new CacheModel(options, seed: 5, alphabet: 2, prefixBuckets: 0);
            var tables = new List<int>();
            var table = new int[64];
            for (int step = 0; step < 2000; step++)
            {
                model.Step();
                foreach ((CacheSequence handle, _) in model.Living)
                    tables.AddRange(table.AsSpan(0, model.Cache.CopyBlockTable(handle, table)).ToArray());
            }

            return tables;
        }
    }
}
