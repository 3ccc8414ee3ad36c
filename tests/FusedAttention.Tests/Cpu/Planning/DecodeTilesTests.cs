using FusedAttention.Cpu.Planning;
using FusedAttention.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Cpu.Planning;

/// <summary>How decode walks through keys, where its sizes change. Numbers here are those that measurements chose: a test that fails because one of them was changed on purpose is to be changed with it.</summary>
public sealed class DecodeTilesTests
{
    [Theory]
    [InlineData(1, 512, 1)]
    [InlineData(512, 512, 1)]
    [InlineData(513, 512, 2)]
    [InlineData(32768, 512, 64)]
    [InlineData(32769, 1024, 33)]
    [InlineData(1_000_000, 16384, 62)]
    [InlineData(int.MaxValue, 33554432, 64)]
    public void Chunks_have_512_keys_until_there_are_64_of_them(int keys, int chunkKeys, int chunks)
    {
        KeySplits splits = DecodeTiles.Chunks(new KeyRange(0, keys));
        Assert.Equal((chunkKeys, chunks), (splits.Keys, splits.Count));
        Assert.Equal(0, splits.Keys % DecodeTiles.Keys);
    }

    [Theory]
    [InlineData(true, 16383, 8)]
    [InlineData(true, 16384, 2)]
    [InlineData(false, 16384, 8)]
    [InlineData(false, 1025, 8)]
    [InlineData(false, 1024, 16)]
    [InlineData(true, 128, 16)]
    public void Long_tokens_one_by_one_are_asked_for_two_ahead_and_short_ones_sixteen(bool byToken, long tokenBytes, int ahead) => Assert.Equal(ahead, DecodeTiles.TokensAhead(byToken, tokenBytes));

    /// <summary>What is used now has been asked for before: requests reach as far as a step at least.</summary>
    [Theory]
    [InlineData(1, 16384)]
    [InlineData(1, 65536)]
    [InlineData(1, 8192)]
    [InlineData(4, 1024)]
    [InlineData(4, 8192)]
    public void Requests_reach_beyond_a_step(int rowsPerHead, long tokenBytes) =>
        Assert.InRange(DecodeTiles.ValueStep(rowsPerHead, tokenBytes, 100_000), 1, DecodeTiles.TokensAhead(byToken: rowsPerHead == 1, tokenBytes));

    [Theory]
    [InlineData(1, 1 << 20, 8)]
    [InlineData(4, 4095, 8)]
    [InlineData(4, 4096, 2)]
    public void Keys_of_long_tokens_are_taken_as_the_product_takes_them(int rowsPerHead, long tokenBytes, int step) => Assert.Equal(step, DecodeTiles.KeyStep(rowsPerHead, tokenBytes, keysOfProduct: 2));

    [Theory]
    [InlineData(1, 4096, 100_000, 4)]
    [InlineData(1, 16383, 100_000, 4)]
    [InlineData(1, 16384, 100_000, 2)]
    [InlineData(4, 4095, 100_000, 8)]
    [InlineData(4, 4096, 100_000, 4)]
    [InlineData(4, 4096, 256, 8)]
    [InlineData(4, 4096, 257, 4)]
    public void Values_are_taken_in_long_steps_where_they_are_short_or_in_the_cache(int rowsPerHead, long tokenBytes, int keys, int step)
    {
        Assert.Equal(step, DecodeTiles.ValueStep(rowsPerHead, tokenBytes, keys));
        Assert.InRange(step, 1, DecodeTiles.MaxStep);
    }
}
