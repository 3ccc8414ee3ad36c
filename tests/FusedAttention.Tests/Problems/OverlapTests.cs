using System.Numerics.Tensors;
using Xunit;
using static FusedAttention.Testing.Refusal;

namespace FusedAttention.Tests;

/// <summary>Outputs that share memory with an input or with themselves are refused; outputs that merely interleave with inputs are not.</summary>
public sealed class OverlapTests
{
    [Fact]
    public void Output_must_not_be_an_input()
    {
        Of("output", o => Attention.Forward(Out(o, 5, 4, 8), In(7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8)), "query", "[5, 4, 8]");
        Of("output", o => Attention.Forward(In(5, 4, 8), Out(o, 7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8)), "key", "[7, 2, 8]");
        Of("output", o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), Out(o, 7, 2, 8), Out(o, 5, 4, 8)), "value");
    }

    [Fact]
    public void Output_must_not_reach_into_an_input()
    {
        // The last element of one is the first of the other.
        Of("output", o => Attention.Forward<float, float>(o.AsSpan(159, 160), new float[112], new float[112], o.AsSpan(0, 160), new AttentionShape(1, 5, 7, 4, 2, 8)), "query");
        Of("output", o => Attention.Forward<float, float>(new float[160], o.AsSpan(0, 112), new float[112], o.AsSpan(111, 160), new AttentionShape(1, 5, 7, 4, 2, 8)), "key");
        var memory = new float[400];
        Attention.Forward<float, float>(memory.AsSpan(160, 160), new float[112], new float[112], memory.AsSpan(0, 160), new AttentionShape(1, 5, 7, 4, 2, 8));
    }

    [Fact]
    public void Output_must_not_be_mask_bias_or_log_sum_exp()
    {
        Of(
            "output",
            o => Attention.Forward(In(5, 4, 8), In(8, 2, 8), In(8, 2, 8), Out(o, 5, 4, 8), null, new() { Bias = (ReadOnlyTensorSpan<float>)Out(o, 5, 8) }),
            "Bias");
        Of(
            "operands",
            o => Attention.Forward(In(5, 4, 8), In(8, 2, 8), In(8, 2, 8), Out(o, 5, 4, 8), null, new() { LogSumExp = Out(o, 4, 5) }),
            "LogSumExp", "output");
        Of(
            "operands",
            o => Attention.Forward(Out(o, 5, 4, 8), In(8, 2, 8), In(8, 2, 8), Out(new float[160], 5, 4, 8), null, new() { LogSumExp = Out(o, 4, 5) }),
            "LogSumExp", "query");
    }

    [Fact]
    public void Output_must_not_overlap_itself()
    {
        Of("output", o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), In(7, 2, 8), new TensorSpan<float>(o, 0, [5, 4, 8], [0, 8, 1])), "[5, 4, 8]", "0");
        Of("output", o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), In(7, 2, 8), new TensorSpan<float>(o, 0, [5, 4, 8], [8, 0, 1])), "[5, 4, 8]");
        Of(
            "output",
            o => Attention.Forward<float, float>(new float[160], new float[112], new float[112], o, new AttentionShape(1, 5, 7, 4, 2, 8) { OutputStrides = new(160, 32, 7) }),
            "7");
    }

    [Fact]
    public void Inputs_may_share_memory_and_may_be_broadcast()
    {
        float[] numbers = new ProblemGenerator(1).Numbers(160, 1, AttentionElementType.Float32);
        var all = new ReadOnlyTensorSpan<float>(numbers, [5, 4, 8]);
        var output = new float[160];
        Attention.Forward(all, all, all, Out(output, 5, 4, 8));

        // One query for all tokens: every row is the same.
        var broadcast = new ReadOnlyTensorSpan<float>(numbers, 0, [5, 4, 8], [0, 8, 1]);
        Attention.Forward(broadcast, all, all, Out(output, 5, 4, 8));
        for (int i = 1; i < 5; i++) CallResult.AssertSameBits(output.AsSpan(0, 32), output.AsSpan(i * 32, 32), $"row {i}");
    }

    [Fact]
    public void Slices_of_a_packed_projection_are_read_where_they_lie()
    {
        // [tokens, 6 heads, 16]: 4 query heads, 1 key head, 1 value head, as one matrix product leaves them.
        const int tokens = 37;
        float[] packed = new ProblemGenerator(2).Numbers(tokens * 96, 1, AttentionElementType.Float32);
        var all = new ReadOnlyTensorSpan<float>(packed, [tokens, 6, 16]);
        var output = new float[tokens * 64];
        var options = new AttentionOptions { Mask = AttentionMask.Causal };
        Attention.Forward(
            all.Slice([.. Heads(0, 4)]), all.Slice([.. Heads(4, 5)]), all.Slice([.. Heads(5, 6)]), Out(output, tokens, 4, 16), options);
        var expected = new float[output.Length];
        Attention.Forward<float, float>(
            Copy(packed, 0, 4), Copy(packed, 4, 1), Copy(packed, 5, 1), expected, new AttentionShape(1, tokens, tokens, 4, 1, 16), options);
        CallResult.AssertSameBits(expected, output, "packed projection");

        static System.Buffers.NRange[] Heads(int from, int to) => [System.Buffers.NRange.All, new(from, to), System.Buffers.NRange.All];

        static float[] Copy(float[] packed, int firstHead, int heads)
        {
            var copy = new float[tokens * heads * 16];
            for (int t = 0; t < tokens; t++) packed.AsSpan((t * 96) + (firstHead * 16), heads * 16).CopyTo(copy.AsSpan(t * heads * 16));
            return copy;
        }
    }
}
