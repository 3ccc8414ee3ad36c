using System.Numerics.Tensors;
using Xunit;
using static FusedAttention.Testing.Refusal;

namespace FusedAttention.Tests;

/// <summary>What all calls refuse among the optional tensors and the per-head options.</summary>
public sealed class OperandArgumentTests
{
    [Fact]
    public void Key_lengths_must_be_one_a_batch_row_and_within_the_keys()
    {
        Of("operands", o => Dense(o, new() { KeyLengths = [7] }), "KeyLengths", "1", "2");
        Of("operands", o => Dense(o, new() { KeyLengths = [7, 7, 7] }), "KeyLengths", "3", "2");
        Of("operands", o => Dense(o, new() { KeyLengths = [7, 8] }), "KeyLengths[1]", "8", "7");
        Of("operands", o => Dense(o, new() { KeyLengths = [-1, 7] }), "KeyLengths[0]", "-1");
        Of("operands", o => Dense(o, new() { KeyLengths = [int.MinValue, 7] }), int.MinValue.ToString());
    }

    [Fact]
    public void Query_offsets_must_be_one_a_sequence_and_leave_room_for_arithmetic()
    {
        Of("operands", o => Dense(o, new() { QueryOffsets = [1] }), "QueryOffsets", "1", "2");
        Of("operands", o => Dense(o, new() { QueryOffsets = [1, 2, 3] }), "QueryOffsets", "3", "2");
        Of("operands", o => Dense(o, new() { QueryOffsets = [0, (1L << 40) + 1] }), "QueryOffsets[1]", ((1L << 40) + 1).ToString());
        Of("operands", o => Dense(o, new() { QueryOffsets = [long.MinValue, 0] }), "QueryOffsets[0]", long.MinValue.ToString());
        Of("operands", o => Packed(o, new() { QueryOffsets = [1] }), "QueryOffsets", "1", "2");
        Of("operands", o => Paged(o, new() { QueryOffsets = [1, 2, 3] }), "QueryOffsets", "3", "2");
    }

    [Fact]
    public void Key_lengths_belong_to_dense_calls()
    {
        Of("operands", o => Packed(o, new() { KeyLengths = [3, 4] }), "KeyLengths");
        Of("operands", o => Paged(o, new() { KeyLengths = [3, 4] }), "KeyLengths");
    }

    [Fact]
    public void Masks_must_broadcast_to_the_scores()
    {
        Of("operands", o => Dense(o, new() { BooleanMask = In<bool>(2, 4, 5, 6) }), "BooleanMask", "[2, 4, 5, 6]", "7");
        Of("operands", o => Dense(o, new() { BooleanMask = In<bool>(2, 4, 5, 8) }), "BooleanMask", "[2, 4, 5, 8]", "7");
        Of("operands", o => Dense(o, new() { BooleanMask = In<bool>(2, 4, 5, 1) }), "BooleanMask", "[2, 4, 5, 1]");
        Of("operands", o => Dense(o, new() { BooleanMask = In<bool>(3, 4, 5, 7) }), "BooleanMask", "[3, 4, 5, 7]");
        Of("operands", o => Dense(o, new() { BooleanMask = In<bool>(2, 2, 5, 7) }), "BooleanMask", "[2, 2, 5, 7]");
        Of("operands", o => Dense(o, new() { BooleanMask = In<bool>(4, 7) }), "BooleanMask", "[4, 7]");
        Of("operands", o => Dense(o, new() { BooleanMask = In<bool>(1, 2, 4, 5, 7) }), "BooleanMask");
        Of("operands", o => Packed(o, new() { BooleanMask = In<bool>(4, 6, 3) }), "BooleanMask", "[4, 6, 3]", "4");
        Of("operands", o => Packed(o, new() { BooleanMask = In<bool>(4, 5, 4) }), "BooleanMask", "[4, 5, 4]", "6");
        Of("operands", o => Packed(o, new() { BooleanMask = In<bool>(1, 4, 6, 4) }), "BooleanMask", "[1, 4, 6, 4]");
        Of("operands", o => Paged(o, new() { BooleanMask = In<bool>(4, 6, 19) }), "BooleanMask", "[4, 6, 19]", "20");
        Of("operands", o => Dense(o, new() { BooleanMask = new ReadOnlyTensorSpan<bool>(new bool[100], 0, [5, 7], [14, 2]) }), "BooleanMask", "2");
    }

    [Fact]
    public void Biases_must_broadcast_to_the_scores()
    {
        Of("operands", o => Dense(o, new() { Bias = In(2, 4, 5, 6) }), "Bias", "[2, 4, 5, 6]", "7");
        Of("operands", o => Dense(o, new() { Bias = In<Half>(2, 3, 5, 7) }), "Bias", "[2, 3, 5, 7]", "4");
        Of("operands", o => Dense(o, new() { Bias = In<BFloat16>(6, 7) }), "Bias", "[6, 7]", "5");
        Of("operands", o => Packed(o, new() { Bias = In(2, 6, 4) }), "Bias", "[2, 6, 4]", "4");
        Of("operands", o => Paged(o, new() { Bias = In(1, 1, 5) }), "Bias", "[1, 1, 5]", "20");
        Of("operands", o => Dense(o, new() { Bias = new ReadOnlyTensorSpan<float>(new float[100], 0, [5, 7], [1, 5]) }), "Bias", "5");
    }

    [Fact]
    public void Log_sum_exps_must_have_the_shape_of_the_rows()
    {
        Of("operands", o => Dense(o, new() { LogSumExp = Out(new float[100], 2, 5, 4) }), "LogSumExp", "[2, 5, 4]", "[2, 4, 5]");
        Of("operands", o => Dense(o, new() { LogSumExp = Out(new float[100], 4, 5) }), "LogSumExp", "[4, 5]", "[2, 4, 5]");
        Of("operands", o => Packed(o, new() { LogSumExp = Out(new float[100], 4, 5) }), "LogSumExp", "[4, 5]", "[4, 6]");
        Of("operands", o => Paged(o, new() { LogSumExp = Out(new float[100], 1, 4, 6) }), "LogSumExp", "[1, 4, 6]", "[4, 6]");
        Of("operands", o => Dense(o, new() { LogSumExp = new TensorSpan<float>(new float[100], 0, [2, 4, 5], [5, 0, 1]) }), "LogSumExp", "[2, 4, 5]");
        Of(
            "operands",
            o => Attention.Forward(In(5, 4, 8), In(7, 2, 8), In(7, 2, 8), Out(o, 5, 4, 8), null, new() { LogSumExp = Out(new float[100], 1, 4, 5) }),
            "LogSumExp", "[1, 4, 5]", "[4, 5]");
    }

    [Fact]
    public void Slopes_and_sinks_must_be_one_a_query_head()
    {
        Of("options", o => Dense(o, default, new() { AlibiSlopes = [1, 2] }), "AlibiSlopes", "2", "4");
        Of("options", o => Dense(o, default, new() { SinkLogits = [1, 2, 3, 4, 5] }), "SinkLogits", "5", "4");
        Of("options", o => Packed(o, default, new() { AlibiSlopes = [1] }), "AlibiSlopes", "1", "4");
        Of("options", o => Paged(o, default, new() { SinkLogits = [1, 2] }), "SinkLogits", "2", "4");
    }

    [Fact]
    public void A_variant_that_does_not_exist_is_refused()
    {
        var output = new float[320];
        Exception error = Assert.ThrowsAny<Exception>(() => Dense(output, default, execution: new() { InstructionSet = (CpuInstructionSet)99 }));
        Assert.True(error is ArgumentException or PlatformNotSupportedException, error.ToString());
        Assert.Contains("99", error.Message, StringComparison.Ordinal);
    }

    private static void Dense(float[] output, scoped in AttentionOperands operands, AttentionOptions? options = null, CpuExecution? execution = null)
        => Attention.Forward(In(2, 5, 4, 8), In(2, 7, 2, 8), In(2, 7, 2, 8), Out(output, 2, 5, 4, 8), options, operands, execution);

    private static void Packed(float[] output, scoped in AttentionOperands operands, AttentionOptions? options = null)
        => Attention.ForwardVariableLength(In(6, 4, 8), In(7, 2, 8), In(7, 2, 8), Out(output, 6, 4, 8), [0, 1, 6], [0, 3, 7], options, operands);

    private static void Paged(float[] output, scoped in AttentionOperands operands, AttentionOptions? options = null)
        => Attention.ForwardPaged(
            In(6, 4, 8), In(9, 16, 2, 8), In(9, 16, 2, 8), Out(output, 6, 4, 8), new PagedSequences([0, 1, 6], [20, 6], [1, 2, 3, -1], 2), options, operands);
}
