using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Problems;

/// <summary>Which keys a position sees, against the sentence of the law: key j is seen when it is at most so far to the left, at most so far to the right, and there.</summary>
public sealed class KeyRangeTests
{
    private static readonly long[] Reaches = [0, 1, 2, 5, 100, KeyRange.Unbounded];

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(9)]
    public void A_query_sees_the_keys_within_reach(int keys)
    {
        foreach (long left in Reaches)
        foreach (long right in Reaches)
        {
            for (long position = -12; position <= 20; position++)
            {
                int[] seen = Seen(position, position, left, right, keys);
                KeyRange range = KeyRange.Of(position, left, right, keys);
                AssertIs(seen, range, $"position {position}, reaches {left} and {right}, {keys} keys");
            }
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(9)]
    public void Consecutive_queries_see_the_union(int keys)
    {
        foreach (long left in Reaches)
        foreach (long right in Reaches)
        {
            for (long first = -12; first <= 14; first++)
            {
                for (long last = first; last <= first + 7; last++)
                {
                    KeyRange range = KeyRange.Of(first, last, left, right, keys);
                    AssertIs(Seen(first, last, left, right, keys), range, $"positions {first} to {last}, reaches {left} and {right}, {keys} keys");
                }
            }
        }
    }

    /// <summary>Positions stay within 2^41: 2^31 queries and an offset of 2^40 at most on either side.</summary>
    [Theory]
    [InlineData(-(1L << 41), 0, 0)]
    [InlineData(1L << 41, 0, int.MaxValue)]
    public void The_farthest_positions_do_not_wrap(long position, int endWhenCausal, int startOfWindow)
    {
        const int Keys = int.MaxValue;
        Assert.Equal(new KeyRange(0, Keys), KeyRange.Of(position, KeyRange.Unbounded, KeyRange.Unbounded, Keys));
        Assert.Equal(new KeyRange(0, position < 0 ? endWhenCausal : Keys), KeyRange.Of(position, KeyRange.Unbounded, 0, Keys));
        Assert.Equal(new KeyRange(startOfWindow, Keys), KeyRange.Of(position, 0, KeyRange.Unbounded, Keys));
        Assert.True(KeyRange.Of(position, 0, 0, Keys).IsEmpty);
        Assert.Equal(0, KeyRange.Of(position, 0, 0, Keys).Length);
    }

    [Theory]
    [InlineData(3, 9, 0, 20, 3, 9)]
    [InlineData(3, 9, 4, 8, 4, 8)]
    [InlineData(3, 9, 0, 5, 3, 5)]
    [InlineData(3, 9, 7, 20, 7, 9)]
    public void An_intersection_is_what_both_have(int start, int end, int otherStart, int otherEnd, int expectedStart, int expectedEnd)
        => Assert.Equal(new KeyRange(expectedStart, expectedEnd), new KeyRange(start, end).Intersect(otherStart, otherEnd));

    [Theory]
    [InlineData(0, 3)]
    [InlineData(9, 12)]
    public void An_intersection_of_nothing_is_empty(int otherStart, int otherEnd)
    {
        KeyRange range = new KeyRange(3, 9).Intersect(otherStart, otherEnd);
        Assert.Equal((true, 0), (range.IsEmpty, range.Length));
    }

    private static int[] Seen(long first, long last, long left, long right, int keys)
        => [.. Enumerable.Range(0, keys).Where(j => Enumerable.Range(0, (int)(last - first) + 1).Any(i => first + i - j <= left && j - (first + i) <= right))];

    private static void AssertIs(int[] seen, KeyRange range, string what)
    {
        Assert.True(seen.Length == 0 == range.IsEmpty && seen.Length == range.Length, $"{what}: {range} for {seen.Length} keys.");
        if (seen.Length > 0) Assert.True(seen[0] == range.Start && seen[^1] == range.End - 1, $"{what}: {range} for keys {seen[0]} to {seen[^1]}.");
    }
}
