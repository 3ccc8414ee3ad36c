using FusedAttention.Devices;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Devices;

public sealed class VectorAlignmentTests
{
    [Theory]
    [InlineData(64, 64, 64)]
    [InlineData(12, 12, 4)]
    [InlineData(64, 33, 1)]
    public void Strides_tell_how_long_vectors_may_be(int keyDim, int valueDim, long expected) =>
        Assert.Equal(expected, VectorAlignment.OfStrides(ShapeProblem.Dense<float, float>(new AttentionShape(2, 3, 5, 1, 1, keyDim, valueDim), AttentionOptions.Default)));

    [Theory]
    [InlineData(0, 0, 1L << 40)]
    [InlineData(16, 0, 4)]
    [InlineData(0, 6, 1)]
    [InlineData(8, 64, 2)]
    [InlineData(16, 8, 4)]
    public void Beginnings_count_in_bytes_of_their_type(long queryOffset, long keyOffset, long expected)
    {
        var problem = new AttentionProblem { QueryType = AttentionElementType.Float32, KeyValueType = AttentionElementType.Float16 };
        var memory = new CallMemory(new(null!, queryOffset), new(null!, keyOffset), new(null!, 4096), default);
        long actual = VectorAlignment.OfPlaces(problem, memory);
        if (expected < 1L << 40) Assert.Equal(expected, actual);
        else Assert.True(actual >= 1024);
    }
}
