using FusedAttention.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Planning;

public sealed class KeySplitsTests
{
    [Theory]
    [InlineData(0, 1, 256, 1)]
    [InlineData(0, 256, 256, 1)]
    [InlineData(0, 257, 256, 2)]
    [InlineData(0, 16384, 256, 64)]
    [InlineData(0, 16385, 512, 33)]
    [InlineData(100, 300, 256, 2)]
    [InlineData(255, 16639, 256, 65)]     // 16,384 keys that begin inside a split: one more than the most
    [InlineData(0, int.MaxValue, 1 << 25, 64)]
    [InlineData(int.MaxValue - 1, int.MaxValue, 256, 1)]
    public void Size_and_count_follow_from_the_visible_keys(int start, int end, int keys, int count)
    {
        var splits = new KeySplits(new KeyRange(start, end), 256, 64);
        Assert.Equal((keys, count), (splits.Keys, splits.Count));
    }

    [Theory]
    [InlineData(0, 5000)]
    [InlineData(777, 5001)]
    [InlineData(1_000_003, 1_100_000)]
    [InlineData(0, int.MaxValue)]
    [InlineData(int.MaxValue - 100_000, int.MaxValue)]
    public void Splits_cover_the_visible_keys_once_and_begin_at_multiples_of_their_size(int start, int end)
    {
        var splits = new KeySplits(new KeyRange(start, end), 256, 64);
        int next = start;
        for (int i = 0; i < splits.Count; i++)
        {
            KeyRange split = splits[i];
            Assert.Equal(next, split.Start);
            Assert.True(!split.IsEmpty && split.Length <= splits.Keys, $"Split {i} is {split}.");
            if (i > 0) Assert.Equal(0, split.Start % splits.Keys);
            next = split.End;
        }

        Assert.Equal(end, next);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5000)]
    public void What_sees_no_key_is_one_empty_split(int position)
    {
        var splits = new KeySplits(new KeyRange(position, position), 256, 64);
        Assert.Equal((1, true), (splits.Count, splits[0].IsEmpty));
    }

    /// <summary>The same queries over a longer sequence whose further keys they cannot see: another capacity, the same splits.</summary>
    [Fact]
    public void Keys_that_lie_hidden_do_not_show()
    {
        var options = new AttentionOptions { Mask = AttentionMask.Causal, QueryOffset = 20_000 };
        KeySplits near = Splits(20_001), far = Splits(400_000);
        Assert.Equal((near.Keys, near.Count, near[0], near[near.Count - 1]), (far.Keys, far.Count, far[0], far[far.Count - 1]));

        KeySplits Splits(int keys)
        {
            AttentionProblem problem = ShapeProblem.Dense<float, float>(new AttentionShape(1, 1, keys, 4, 1, 64, 64), options);
            return new(problem.RangeOf(problem.Sequences[0], 0, 0), 256, 64);
        }
    }
}
