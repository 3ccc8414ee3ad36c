using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests.Problems;

/// <summary>What plans are made from.</summary>
public sealed class CallSizesTests
{
    /// <param name="heads">Query heads, over two key/value heads.</param>
    /// <param name="shape">Of the bias.</param>
    /// <param name="expected">Whether a key/value head has one row of it.</param>
    [Theory]
    [InlineData(4, new long[] { 1, 1, 1, 5 }, true)]
    [InlineData(4, new long[] { 1, 5 }, true)]
    [InlineData(4, new long[] { 3, 5 }, false)]
    [InlineData(4, new long[] { 4, 1, 5 }, false)]
    [InlineData(2, new long[] { 2, 1, 5 }, true)]
    [InlineData(2, new long[] { 2, 3, 5 }, false)]
    public void A_bias_of_keys_is_told_by_its_shape(int heads, long[] shape, bool expected)
    {
        Assert.False(SizesWith(null).HasBiasOfKeys);
        Assert.Equal(expected, SizesWith(Zeros("bias", shape)).HasBiasOfKeys);

        CallSizes SizesWith(LoadedTensor? bias) => CallSizes.Of(new CallInputs
        {
            Query = Zeros("q", 1, 3, heads, 8),
            Key = Zeros("k", 1, 5, 2, 8),
            Value = Zeros("v", 1, 5, 2, 8),
            Bias = bias,
            Options = AttentionOptions.Default,
        });
    }

    private static LoadedTensor Zeros(string name, params long[] shape) => LoadedTensor.Create<float>(name, new float[shape.Aggregate(1L, static (a, b) => a * b)], shape);
}
