using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

public sealed class MergeErrorTests
{
    private static readonly float[] Memory = new float[1000];

    [Fact]
    public void Wrong_shapes_are_named()
    {
        AssertRefused("partialOutputs", "partialOutputs is [2, 3, 4], but must be [parts, batch, queries, heads, valueDim] or [parts, queries, heads, valueDim].", [2, 3, 4], [2, 4, 3], [3, 4], []);
        AssertRefused("partialOutputs", "partialOutputs is a tensor of more than 5 dimensions, but must be [parts, batch,", [1, 1, 2, 3, 4, 5], [2, 4, 3], [3, 4], []);
        AssertRefused("partialOutputs", "partialOutputs is [0, 3, 4, 5]: there must be 1 part or more.", [0, 3, 4, 5], [0, 4, 3], [3, 4, 5], []);
        AssertRefused("partialLogSumExps", "partialLogSumExps is [2, 3, 4], but must be [2, 4, 3] beside partialOutputs [2, 3, 4, 5].", [2, 3, 4, 5], [2, 3, 4], [3, 4, 5], []);
        AssertRefused("partialLogSumExps", "partialLogSumExps is [2, 1, 4, 3], but must be [2, 4, 3] beside partialOutputs [2, 3, 4, 5].", [2, 3, 4, 5], [2, 1, 4, 3], [3, 4, 5], []);
        AssertRefused("output", "output is [2, 3, 4], but must be [3, 4, 5] beside partialOutputs [2, 3, 4, 5].", [2, 3, 4, 5], [2, 4, 3], [2, 3, 4], []);
        AssertRefused("output", "output is [3, 4, 5], but must be [1, 3, 4, 5] beside partialOutputs [2, 1, 3, 4, 5].", [2, 1, 3, 4, 5], [2, 1, 4, 3], [3, 4, 5], []);
        AssertRefused("logSumExp", "logSumExp is [3, 4], but must be [4, 3] beside partialOutputs [2, 3, 4, 5].", [2, 3, 4, 5], [2, 4, 3], [3, 4, 5], [3, 4]);
        AssertRefused("logSumExp", "logSumExp is [4, 3], but must be [1, 4, 3] beside partialOutputs [2, 1, 3, 4, 5].", [2, 1, 3, 4, 5], [2, 1, 4, 3], [1, 3, 4, 5], [4, 3]);
    }

    [Fact]
    public void Wrong_sinks_are_named()
    {
        Assert.Equal("sinkLogits has 3 logits, but must have one for each of the 4 heads of partialOutputs [2, 3, 4, 5], or none.", Message([1, 2, 3]));
        Assert.Equal("sinkLogits[2] is NaN, but must be finite or negative infinity.", Message([1, 2, float.NaN, 4]));
        Assert.Equal("sinkLogits[0] is Infinity, but must be finite or negative infinity.", Message([float.PositiveInfinity, 2, 3, 4]));

        static string Message(float[] sinks)
        {
            ArgumentException e = Assert.Throws<ArgumentException>(() => Attention.Merge(
                Tensor.Create(new float[120], [2, 3, 4, 5]), Tensor.Create(new float[24], [2, 4, 3]), Tensor.Create(new float[60], [3, 4, 5]), null, sinks));
            Assert.Equal("sinkLogits", e.ParamName);
            return e.Message.Replace(" (Parameter 'sinkLogits')", "", StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Element_types_are_those_of_attention()
    {
        ArgumentException e = Assert.Throws<ArgumentException>(() => Attention.Merge(Tensor.Create(new double[1], [1, 1, 1, 1]), Tensor.Create(new float[1], [1, 1, 1]), Tensor.Create(new float[1], [1, 1, 1])));
        Assert.Equal("partialOutputs has elements of type Double; attention computes on float, Half and BFloat16. (Parameter 'partialOutputs')", e.Message);
        Assert.Throws<ArgumentException>("output", () => Attention.Merge(Tensor.Create(new float[1], [1, 1, 1, 1]), Tensor.Create(new float[1], [1, 1, 1]), Tensor.Create(new int[1], [1, 1, 1])));
    }

    [Fact]
    public void The_last_dimension_is_contiguous()
    {
        AssertRefused(
            "partialOutputs",
            "partialOutputs of shape [2, 3, 4, 5] has stride 2 in its last dimension; it must be contiguous (stride 1).",
            static () => Attention.Merge(new ReadOnlyTensorSpan<float>(Memory, [2, 3, 4, 5], [120, 40, 10, 2]), Lses(), Output(600, [20, 5, 1])));
        AssertRefused(
            "partialOutputs",
            "partialOutputs of shape [2, 3, 4, 5] has stride 0 in its last dimension; it must be contiguous (stride 1).",
            static () => Attention.Merge(new ReadOnlyTensorSpan<float>(Memory, [2, 3, 4, 5], [120, 40, 10, 0]), Lses(), Output(600, [20, 5, 1])));
        AssertRefused(
            "output",
            "output of shape [3, 4, 5] has stride 2 in its last dimension; it must be contiguous (stride 1).",
            static () => Attention.Merge(Parts(), Lses(), Output(600, [40, 10, 2])));
    }

    [Fact]
    public void Outputs_do_not_alias_themselves()
    {
        AssertRefused(
            "output",
            "output of shape [3, 4, 5] overlaps itself: dimension 0 has stride 0, but 1 elements lie below it.",
            static () => Attention.Merge(Parts(), Lses(), Output(600, [0, 5, 1])));
        AssertRefused(
            "logSumExp",
            "logSumExp of shape [4, 3] overlaps itself: dimension 0 has stride 0, but 1 elements lie below it.",
            static () => Attention.Merge(Parts(), Lses(), Output(600, [20, 5, 1]), new TensorSpan<float>(Memory.AsSpan(800), [4, 3], [0, 1])));
    }

    [Fact]
    public void Outputs_overlap_nothing()
    {
        AssertRefused("output", "output of shape [3, 4, 5] overlaps partialOutputs of shape [2, 3, 4, 5] in memory;", static () => Attention.Merge(Parts(), Lses(), Output(119, [20, 5, 1])));
        AssertRefused("output", "output of shape [3, 4, 5] overlaps partialLogSumExps of shape [2, 4, 3] in memory;", static () => Attention.Merge(Parts(), Lses(), Output(200 + 23, [20, 5, 1])));
        AssertRefused("output", "output of shape [3, 4, 5] overlaps sinkLogits of shape [4] in memory;", static () => Attention.Merge(Parts(), Lses(), Output(600, [20, 5, 1]), default, Memory.AsSpan(659, 4)));
        AssertRefused("output", "output of shape [3, 4, 5] overlaps logSumExp of shape [4, 3] in memory;", static () => Attention.Merge(Parts(), Lses(), Output(600, [20, 5, 1]), Lse(650)));
        AssertRefused("logSumExp", "logSumExp of shape [4, 3] overlaps partialOutputs of shape [2, 3, 4, 5] in memory;", static () => Attention.Merge(Parts(), Lses(), Output(600, [20, 5, 1]), Lse(0)));
        AssertRefused("logSumExp", "logSumExp of shape [4, 3] overlaps partialLogSumExps of shape [2, 4, 3] in memory;", static () => Attention.Merge(Parts(), Lses(), Output(600, [20, 5, 1]), Lse(210)));
        AssertRefused("logSumExp", "logSumExp of shape [4, 3] overlaps sinkLogits of shape [4] in memory;", static () => Attention.Merge(Parts(), Lses(), Output(600, [20, 5, 1]), Lse(700), Memory.AsSpan(711, 4)));

        // Side by side is not overlapping.
        Attention.Merge(Parts(), Lses(), Output(120, [20, 5, 1]), Lse(180), Memory.AsSpan(192, 4));
        Array.Clear(Memory);
    }

    private static ReadOnlyTensorSpan<float> Parts() => new(Memory, [2, 3, 4, 5]);

    private static ReadOnlyTensorSpan<float> Lses() => new(Memory.AsSpan(200, 24), [2, 4, 3]);

    private static TensorSpan<float> Output(int start, ReadOnlySpan<nint> strides) => new(Memory.AsSpan(start), [3, 4, 5], strides);

    private static TensorSpan<float> Lse(int start) => new(Memory.AsSpan(start, 12), [4, 3]);

    private static void AssertRefused(string argument, string message, nint[] partials, nint[] lses, nint[] output, nint[] lse) => AssertRefused(argument, message, () => Attention.Merge(
        new ReadOnlyTensorSpan<float>(new float[Count(partials)], partials),
        new ReadOnlyTensorSpan<float>(new float[Count(lses)], lses),
        new TensorSpan<float>(new float[Count(output)], output),
        lse.Length == 0 ? default : new TensorSpan<float>(new float[Count(lse)], lse)));

    private static nint Count(nint[] lengths) => lengths.Aggregate((nint)1, static (count, length) => count * length);

    private static void AssertRefused(string argument, string message, Action merge)
    {
        ArgumentException e = Assert.Throws<ArgumentException>(merge);
        Assert.Equal(argument, e.ParamName);
        Assert.StartsWith(message, e.Message, StringComparison.Ordinal);
    }
}
