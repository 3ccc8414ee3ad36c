using FusedAttention.Devices;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Devices;

/// <summary>What items take, by what a call has to do: an H100's numbers, 8 key/value heads of 4 query heads.</summary>
public sealed class ItemCutterTests
{
    private static readonly SplitFolding Folding = new(512, 2048, 64, Multiprocessors: 132, Blocks: 2);

    [Theory]
    [InlineData(1, 300, "All")]
    [InlineData(1, 4096, "Split")]
    [InlineData(1, 16_384, "Split")]
    [InlineData(1, 32_768, "Group")]
    [InlineData(1, 1_000_000, "Group")]
    [InlineData(8, 1024, "Split")]
    [InlineData(8, 8192, "Group")]
    [InlineData(16, 1024, "All")]
    [InlineData(16, 2048, "All")]
    [InlineData(33, 8192, "All")]
    [InlineData(34, 8192, "Group")]
    [InlineData(64, 8192, "All")]
    [InlineData(1000, 8192, "All")]
    public void Equal_sequences_stay_whole_where_they_fill_the_device_to_its_end(int sequences, int keys, string items) =>
        Assert.Equal(Enumerable.Repeat(Enum.Parse<ItemKeys>(items), sequences), Cut([.. Enumerable.Repeat(keys, sequences)]));

    /// <summary>One of 64k keys among 63 of a thousand, or of 4 thousand: only the long one is cut, into parts of less than a block's share.</summary>
    [Theory]
    [InlineData(1024)]
    [InlineData(4096)]
    public void A_long_one_among_short_ones_is_cut(int shortKeys)
    {
        ItemKeys[] cut = Cut([.. Enumerable.Repeat(shortKeys, 40), 65_536, .. Enumerable.Repeat(shortKeys, 23)]);
        Assert.Equal(ItemKeys.Group, cut[40]);
        Assert.All(cut.Where(static (_, i) => i != 40), static items => Assert.Equal(ItemKeys.All, items));
    }

    [Fact]
    public void Nothing_to_read_is_no_reason_to_cut() => Assert.Equal([ItemKeys.All, ItemKeys.All], Cut([0, 0]));

    /// <summary>As far as they can: what is one split stays whole, and more splits than are merged become groups.</summary>
    [Fact]
    public void What_is_named_is_taken()
    {
        int[] keys = [500, 1500, 3000, 40_000];
        Assert.Equal([ItemKeys.All, ItemKeys.All, ItemKeys.All, ItemKeys.All], Cut(keys, Folding with { Forced = ItemKeys.All }));
        Assert.Equal([ItemKeys.All, ItemKeys.All, ItemKeys.Group, ItemKeys.Group], Cut(keys, Folding with { Forced = ItemKeys.Group }));
        Assert.Equal([ItemKeys.All, ItemKeys.Split, ItemKeys.Split, ItemKeys.Group], Cut(keys, Folding with { Forced = ItemKeys.Split }));
    }

    private static ItemKeys[] Cut(int[] keys) => Cut(keys, Folding);

    private static ItemKeys[] Cut(int[] keys, SplitFolding folding)
    {
        var cutter = new ItemCutter();
        for (int s = 0; s < keys.Length; s++) cutter.Add(s, new KeyRange(0, keys[s]), 4, folding);
        ItemCut cut = cutter.Choose(folding, keyValueHeads: 8, itemRows: 16);
        return [.. cutter.Sequences.ToArray().Select(sequence => cut.Of(sequence, folding))];
    }
}
