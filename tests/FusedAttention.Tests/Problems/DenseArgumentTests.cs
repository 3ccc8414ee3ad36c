using System.Numerics.Tensors;
using Xunit;
using static FusedAttention.Testing.Refusal;

namespace FusedAttention.Tests;

/// <summary>What <c>Forward</c> on tensor spans refuses: ranks, shapes, heads, dims, types, strides.</summary>
public sealed class DenseArgumentTests
{
    [Fact]
    public void Query_must_have_rank_3_or_4()
    {
        Of("query", o => Attention.Forward(In(5, 8), In(7, 8), In(7, 8), Out(o, 5, 8)), "[5, 8]");
        Of("query", o => Attention.Forward(In(1, 2, 5, 4, 8), In(1, 2, 7, 4, 8), In(1, 2, 7, 4, 8), Out(o, 1, 2, 5, 4, 8)), "[1, 2, 5, 4, 8]");
        Of("query", o => Attention.Forward(In(1, 1, 1, 5, 4, 8), In(7, 4, 8), In(7, 4, 8), Out(o, 5, 4, 8)));
        Of("query", o => Attention.Forward(default, In(7, 4, 8), In(7, 4, 8), Out(o, 5, 4, 8)));
    }

    [Fact]
    public void All_tensors_must_have_the_rank_of_the_query()
    {
        Of("key", o => Attention.Forward(In(2, 5, 4, 8), In(7, 2, 8), In(2, 7, 2, 8), Out(o, 2, 5, 4, 8)), "[7, 2, 8]");
        Of("value", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(7, 2, 8), Out(o, 2, 5, 4, 8)), "[7, 2, 8]");
        Of("output", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 7, 2, 8), Out(o, 10, 4, 8)), "[10, 4, 8]");
        Of("key", o => Attention.Forward(In(5, 4, 8), In(1, 7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8)), "[1, 7, 2, 8]");
    }

    [Fact]
    public void Shapes_must_agree()
    {
        Of("key", o => Attention.Forward(In(2, 5, 4, 8), In(3, 7, 2, 8), In(2, 7, 2, 8), Out(o, 2, 5, 4, 8)), "[3, 7, 2, 8]", "2");
        Of("value", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(3, 7, 2, 8), Out(o, 2, 5, 4, 8)), "[3, 7, 2, 8]", "2");
        Of("key", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 9), In(2, 7, 2, 8), Out(o, 2, 5, 4, 8)), "[2, 7, 2, 9]", "8");
        Of("value", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 6, 2, 8), Out(o, 2, 5, 4, 8)), "[2, 6, 2, 8]", "7");
        Of("value", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 7, 4, 8), Out(o, 2, 5, 4, 8)), "[2, 7, 4, 8]", "2");
        Of("output", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 7, 2, 8), Out(o, 1, 5, 4, 8)), "[1, 5, 4, 8]", "2");
        Of("output", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 7, 2, 8), Out(o, 2, 6, 4, 8)), "[2, 6, 4, 8]", "5");
        Of("output", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 7, 2, 8), Out(o, 2, 5, 2, 8)), "[2, 5, 2, 8]", "4");
        Of("output", o => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 7, 2, 6), Out(o, 2, 5, 4, 8)), "[2, 5, 4, 8]", "6");
    }

    [Fact]
    public void Heads_must_divide()
    {
        Of("key", o => Attention.Forward(In(5, 4, 8), In(7, 3, 8), In(7, 3, 8), Out(o, 5, 4, 8)), "3", "4");
        Of("key", o => Attention.Forward(In(5, 2, 8), In(7, 4, 8), In(7, 4, 8), Out(o, 5, 2, 8)), "4", "2");
        Of("query", o => Attention.Forward(In(5, 0, 8), In(7, 1, 8), In(7, 1, 8), Out(o, 5, 0, 8)), "0");
        Of("key", o => Attention.Forward(In(5, 4, 8), In(7, 0, 8), In(7, 0, 8), Out(o, 5, 4, 8)), "0");
    }

    [Fact]
    public void Dimensions_must_be_1_to_4096()
    {
        Of("query", o => Attention.Forward(In(5, 4, 0), In(7, 2, 0), In(7, 2, 8), Out(o, 5, 4, 8)), "0", "4096");
        Of("query", o => Attention.Forward(In(1, 1, 4097), In(1, 1, 4097), In(1, 1, 8), Out(o, 1, 1, 8)), "4097", "4096");
        Of("value", o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), In(7, 2, 0), Out(o, 5, 4, 0)), "0", "4096");
        Of("value", o => Attention.Forward(In(1, 1, 8), In(1, 1, 8), In(1, 1, 5000), Out(o, 1, 1, 5000)), "5000", "4096");
    }

    [Fact]
    public void The_last_dimension_must_be_contiguous()
    {
        var gapped = new float[1000];
        ReadOnlyTensorSpan<float> Strided(nint tokens, nint heads) => new(gapped, 0, [tokens, heads, 8], [heads * 16, 16, 2]);
        Of("query", o => Attention.Forward(Strided(5, 4), In(7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8)), "[5, 4, 8]", "2");
        Of("key", o => Attention.Forward(In(5, 4, 8), Strided(7, 2), In(7, 2, 8), Out(o, 5, 4, 8)), "[7, 2, 8]", "2");
        Of("value", o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), Strided(7, 2), Out(o, 5, 4, 8)), "[7, 2, 8]", "2");
        Of("output", o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), In(7, 2, 8), new TensorSpan<float>(o, 0, [5, 4, 8], [64, 16, 2])), "[5, 4, 8]", "2");

        // A head dimension that is innermost in memory is the same mistake.
        Of("query", o => Attention.Forward(new ReadOnlyTensorSpan<float>(gapped, 0, [5, 4, 8], [32, 1, 4]), In(7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8)), "4");
    }

    [Fact]
    public void A_last_dimension_of_one_element_has_no_stride_to_refuse()
    {
        float[] numbers = [3, 9, 9, 9, 5, 9, 9, 9];
        var value = new ReadOnlyTensorSpan<float>(numbers, 0, [2, 1, 1], [4, 0, 0]);
        var output = new float[1];
        Attention.Forward(In(1, 1, 1), In(2, 1, 1), value, Out(output, 1, 1, 1));
        Assert.Equal(4, output[0]);
    }

    [Fact]
    public void Element_types_must_be_supported()
    {
        var integers = new int[32];
        Of("query", _ => Attention.Forward(In<int>(1, 4, 8), In<int>(1, 4, 8), In<int>(1, 4, 8), new TensorSpan<int>(integers, [1, 4, 8])), "Int32", "Half");
        Of("query", _ => Attention.Forward(In<double>(1, 4, 8), In<double>(1, 4, 8), In<double>(1, 4, 8), new TensorSpan<double>(new double[32], [1, 4, 8])), "Double");
        Of("key", o => Attention.Forward(In(1, 4, 8), In<double>(1, 4, 8), In<double>(1, 4, 8), Out(o, 1, 4, 8)), "Double");
        Of("key", o => Attention.Forward(In(1, 4, 8), In<ushort>(1, 4, 8), In<ushort>(1, 4, 8), Out(o, 1, 4, 8)), "UInt16");
        Assert.All(integers, x => Assert.Equal(0, x));
    }

    [Fact]
    public void Element_types_must_go_together()
    {
        var output = new Half[32];
        Of("key", _ => Attention.Forward(In<Half>(1, 4, 8), In<float>(1, 4, 8), In<float>(1, 4, 8), new TensorSpan<Half>(output, [1, 4, 8])), "Float32", "Float16");
        Of("key", _ => Attention.Forward(In<Half>(1, 4, 8), In<BFloat16>(1, 4, 8), In<BFloat16>(1, 4, 8), new TensorSpan<Half>(output, [1, 4, 8])), "BFloat16", "Float16");
    }

    [Fact]
    public void Tensors_are_checked_as_their_spans_are()
    {
        Tensor<float> query = Tensor.Create(new float[160], [5, 4, 8]);
        Tensor<float> key = Tensor.Create(new float[168], [7, 3, 8]);
        Of("key", o => Attention.Forward(query, key, key, Tensor.Create(o, [512, 4, 8])), "3", "4");
    }
}
