using System.Numerics.Tensors;
using Xunit;
using static FusedAttention.Testing.Refusal;

namespace FusedAttention.Tests.EightBits;

/// <summary>What calls on keys and values of 8 bits refuse, and in which words.</summary>
public sealed class EightBitArgumentTests
{
    [Fact]
    public void Scales_must_broadcast_to_keys_and_values_without_their_last_dimension()
    {
        Of("operands", o => Dense(o, new() { KeyScale = In(2, 6, 2) }), "KeyScale", "[2, 6, 2]", "1 or 7", "1 or 2");
        Of("operands", o => Dense(o, new() { ValueScale = In(4) }), "ValueScale", "[4]", "1 or 2");
        Of("operands", o => Dense(o, new() { KeyScale = In(3, 1, 1) }), "KeyScale", "[3, 1, 1]", "1 or 2");
        Of("operands", o => Dense(o, new() { KeyScale = In(2, 7, 2, 1) }), "KeyScale", "[2, 7, 2, 1]");
        Of("operands", o => Dense(o, new() { KeyScale = new ReadOnlyTensorSpan<float>(new float[1], [0]) }), "KeyScale", "[0]");
        Of("operands", o => Packed(o, new() { KeyScale = In(6, 2) }), "KeyScale", "[6, 2]", "1 or 7");
        Of("operands", o => Packed(o, new() { ValueScale = In(1, 7, 2) }), "ValueScale", "[1, 7, 2]");
        Of("operands", o => Paged(o, new() { KeyScale = In(9, 15, 2) }), "KeyScale", "[9, 15, 2]", "1 or 16");
        Of("operands", o => Paged(o, new() { ValueScale = In(8, 16, 2) }), "ValueScale", "[8, 16, 2]", "1 or 9");
    }

    [Fact]
    public void Leading_dimensions_of_scales_may_be_left_out()
    {
        float[] output = new float[2 * 5 * 4 * 8];
        Dense(output, new() { KeyScale = In(2), ValueScale = In(7, 1) });
        Dense(output, new() { KeyScale = In(1), ValueScale = In(2, 1, 2) });
        Paged(output, new() { KeyScale = In(16, 1), ValueScale = In(2) });
        Packed(output, new() { KeyScale = In(7, 1), ValueScale = In(1) });
    }

    [Fact]
    public void Only_codes_have_scales_beside_them()
    {
        Of("operands", o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8), operands: new() { KeyScale = In(7, 2) }), "KeyScale", "Float32", "Int8 or Float8E4M3");
        Of("operands", o => Attention.Forward(In(5, 4, 32), In<Q8Block>(7, 2, 1), In<Q8Block>(7, 2, 1), Out(o, 5, 4, 32), operands: new() { ValueScale = In(1) }), "ValueScale", "Q8Block", "hold their own");
    }

    [Fact]
    public void Outputs_must_not_overlap_scales()
    {
        var memory = new float[1000];
        var error = Assert.Throws<ArgumentException>("output", () => Attention.Forward(
            In(5, 4, 8), In<sbyte>(7, 2, 8), In<sbyte>(7, 2, 8), Out(memory, 5, 4, 8), operands: new() { KeyScale = new ReadOnlyTensorSpan<float>(memory.AsSpan(10, 14), [7, 2]) }));
        Assert.Contains("KeyScale", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Blocks_take_heads_of_whole_blocks()
    {
        Of("query", o => Attention.Forward(In(5, 4, 40), In<Q8Block>(7, 2, 1), In<Q8Block>(7, 2, 1), Out(o, 5, 4, 32)), "40", "multiple of 32");
        Of("key", o => Attention.Forward(In(5, 4, 64), In<Q8Block>(7, 2, 1), In<Q8Block>(7, 2, 1), Out(o, 5, 4, 32)), "[7, 2, 1]", "is 2");
        Of("output", o => Attention.Forward(In(5, 4, 64), In<Q8Block>(7, 2, 2), In<Q8Block>(7, 2, 1), Out(o, 5, 4, 64)), "32");
        var shape = new AttentionShape(1, 1, 3, 1, 1, 48, 32);
        Assert.Contains("48", Assert.Throws<ArgumentException>("shape", () => Attention.Forward<float, Q8Block>(new float[48], new Q8Block[9], new Q8Block[9], new float[32], shape)).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>("key", () => Attention.Forward<float, Q8Block>(new float[64], new Q8Block[5], new Q8Block[6], new float[64], new AttentionShape(1, 1, 3, 1, 1, 64)));
    }

    [Fact]
    public void Queries_and_caches_have_more_than_8_bits()
    {
        Assert.Contains("8-bit", Assert.Throws<ArgumentException>("query", () => Attention.Forward(In<sbyte>(5, 4, 8), In<sbyte>(7, 2, 8), In<sbyte>(7, 2, 8), new TensorSpan<sbyte>(new sbyte[160], [5, 4, 8]))).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => Attention.Forward(In<Half>(5, 4, 8), In(7, 2, 8), In(7, 2, 8), new TensorSpan<Half>(new Half[160], [5, 4, 8])));
    }

    /// <summary>Weights of a row, scales included.</summary>
    [Fact]
    public void Weights_are_those_of_scaled_keys()
    {
        var generator = new ProblemGenerator(6);
        float[] query = generator.Numbers(2 * 8, 2, AttentionElementType.Float32), codes = generator.Numbers(5 * 8, 40, AttentionElementType.Int8);
        float[] scales = [0.01f, 0.1f, 0.05f, 0, 0.2f];
        Tensor<sbyte> key = Tensor.Create(Elements.FromAll<sbyte>(codes), [5, 1, 8]);
        double[] weights = new double[5], expected = new double[5];
        Attention.GetWeights(Tensor.Create(query, [1, 2, 8]), key, 0, 0, 1, weights, operands: new() { KeyScale = Tensor.Create(scales, [5, 1]), ValueScale = In(77) });
        for (int j = 0; j < 5; j++) expected[j] = Math.Exp(Enumerable.Range(0, 8).Sum(d => (double)query[8 + d] * codes[(j * 8) + d] * scales[j]) / Math.Sqrt(8));
        for (int j = 0; j < 5; j++) Assert.Equal(expected[j] / expected.Sum(), weights[j], 1e-6);
    }

    [Fact]
    public void Plans_are_explained_and_prepared()
    {
        var shape = new AttentionShape(1, 1, 600, 4, 2, 64);
        AttentionExplanation codes = Attention.Explain<float, sbyte>(shape), blocks = Attention.Explain<Half, Q8Block>(shape);
        Assert.Contains("keys and values of Int8", codes.Details, StringComparison.Ordinal);
        Assert.Equal(600 * 2 * 2 * 64, codes.KeyValueBytes);
        Assert.Equal(600 * 2 * 2 * 68, blocks.KeyValueBytes);
        Attention.Prepare<float, sbyte>(shape);
        Attention.Prepare<BFloat16, Float8E4M3>(shape with { QueryLength = 30 });
        Attention.Prepare<Half, Q8Block>(shape with { KeyStrides = AttentionStrides.HeadMajor(2, 600, 2), ValueStrides = AttentionStrides.HeadMajor(2, 600, 2) });
        Attention.Prepare<float, Q8Block>(shape, [1, 40], [600, 40], 16);
        Attention.Prepare<float, Float8E4M3>(shape, [1, 40], [600, 40]);
    }

    private static void Dense(float[] output, scoped in AttentionOperands operands)
        => Attention.Forward(In(2, 5, 4, 8), In<sbyte>(2, 7, 2, 8), In<sbyte>(2, 7, 2, 8), Out(output, 2, 5, 4, 8), null, operands);

    private static void Packed(float[] output, scoped in AttentionOperands operands)
        => Attention.ForwardVariableLength(In(6, 4, 8), In<Float8E4M3>(7, 2, 8), In<Float8E4M3>(7, 2, 8), Out(output, 6, 4, 8), [0, 1, 6], [0, 3, 7], null, operands);

    private static void Paged(float[] output, scoped in AttentionOperands operands)
        => Attention.ForwardPaged(
            In(6, 4, 8), In<sbyte>(9, 16, 2, 8), In<sbyte>(9, 16, 2, 8), Out(output, 6, 4, 8), new PagedSequences([0, 1, 6], [20, 6], [1, 2, 3, -1], 2), null, operands);
}
