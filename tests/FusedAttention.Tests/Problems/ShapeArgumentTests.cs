using Xunit;
using static FusedAttention.Testing.Refusal;

namespace FusedAttention.Tests;

/// <summary>What <c>Forward</c> on plain spans and pointers refuses: spans too short for their shape, impossible shapes, null pointers.</summary>
public sealed unsafe class ShapeArgumentTests
{
    private static readonly AttentionShape Shape = new(2, 5, 7, 4, 2, 8, 6);

    [Fact]
    public void Spans_must_reach_as_far_as_the_shape()
    {
        Of("query", o => Forward(new float[319], new float[224], new float[168], o, Shape), "319", "320");
        Of("key", o => Forward(new float[320], new float[223], new float[168], o, Shape), "223", "224");
        Of("value", o => Forward(new float[320], new float[224], new float[167], o, Shape), "167", "168");
        var output = new float[239];
        Of("output", _ => Forward(new float[320], new float[224], new float[168], output, Shape), "239", "240");
        Of("query", o => Forward([], new float[224], new float[168], o, Shape), "0", "320");
    }

    [Fact]
    public void Spans_must_reach_as_far_as_the_strides()
    {
        // Tokens 40 elements apart: the last element is 1 batch row, 4 tokens, 3 heads and 7 elements away from the first.
        AttentionShape strided = Shape with { QueryStrides = new AttentionStrides(200, 40, 8) };
        Of("query", o => Forward(new float[391], new float[224], new float[168], o, strided), "391", "392");
        Forward(new float[392], new float[224], new float[168], new float[240], strided);
        AttentionShape outputStrided = Shape with { OutputStrides = new AttentionStrides(1000, 24, 6) };
        var output = new float[1119];
        Of("output", _ => Forward(new float[320], new float[224], new float[168], output, outputStrided), "1119", "1120");
    }

    [Fact]
    public void Numbers_of_the_shape_must_make_sense()
    {
        float[] numbers = new float[1000];
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { Batch = -1 }), "Batch", "-1");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { QueryLength = -5 }), "QueryLength", "-5");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { KeyLength = int.MinValue }), "KeyLength", int.MinValue.ToString());
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { QueryHeads = 0 }), "0");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { KeyValueHeads = 0 }), "0");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { KeyValueHeads = -2 }), "-2");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { KeyValueHeads = 3 }), "3", "4");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { KeyDim = 0 }), "0");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { ValueDim = 5000 }), "5000");
        Of("shape", o => Forward(numbers, numbers, numbers, o, Shape with { KeyStrides = new AttentionStrides(1, -1, 1) }), "KeyStrides", "-1");
        Of("shape", o => Forward(numbers, numbers, numbers, o, default));
    }

    [Fact]
    public void Sizes_whose_product_leaves_64_bits_are_refused_and_not_wrapped_around()
    {
        float[] numbers = new float[64];
        // 2^30 tokens x 2^30 heads x 16 elements are 2^64 elements: 0, to arithmetic that wraps.
        var huge = new AttentionShape(1, 1 << 30, 1, 1 << 30, 1, 16);
        Assert.ThrowsAny<ArgumentException>(() => Forward(numbers, numbers, numbers, new float[64], huge));
        var hugeKeys = new AttentionShape(1, 1, 1 << 30, 1 << 30, 1 << 30, 16);
        Assert.ThrowsAny<ArgumentException>(() => Forward(numbers, numbers, numbers, new float[64], hugeKeys));
        AttentionShape hugeStride = new AttentionShape(3, 1, 1, 1, 1, 16) with { KeyStrides = new AttentionStrides(long.MaxValue / 2 + 1, 16, 16) };
        Assert.ThrowsAny<ArgumentException>(() => Forward(numbers, numbers, numbers, new float[64], hugeStride));
    }

    [Fact]
    public void Null_pointers_are_refused_where_there_are_elements()
    {
        fixed (float* p = new float[400])
        {
            nint address = (nint)p;
            Of("query", o => Point(0, address, address, o), "null");
            Of("key", o => Point(address, 0, address, o), "null");
            Of("value", o => Point(address, address, 0, o), "null");
        }

        var empty = new AttentionShape(0, 5, 7, 4, 2, 8);
        Attention.Forward((float*)null, (float*)null, (float*)null, (float*)null, empty);

        static void Point(nint query, nint key, nint value, float[] output)
        {
            fixed (float* o = output) Attention.Forward((float*)query, (float*)key, (float*)value, o, Shape);
        }
    }

    [Fact]
    public void Explanations_check_their_shape_too()
    {
        Assert.Equal("shape", Assert.ThrowsAny<ArgumentException>(() => Attention.Explain<float, float>(Shape with { KeyValueHeads = 3 })).ParamName);
        Assert.ThrowsAny<ArgumentException>(() => Attention.Explain<int, int>(Shape));
        Assert.ThrowsAny<ArgumentException>(() => Attention.Explain<float, float>(Shape, [1, 2], [3]));
        Assert.ThrowsAny<ArgumentException>(() => Attention.Explain<float, float>(Shape, [1, -2], [3, 4]));
        Assert.ThrowsAny<ArgumentException>(() => Attention.Explain<float, float>(Shape, [1], [3], blockSize: 0));
    }

    private static void Forward(float[] query, float[] key, float[] value, float[] output, in AttentionShape shape)
        => Attention.Forward<float, float>(query, key, value, output, shape);
}
