using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;
using FusedAttention.Comparison.Measurement;
using Xunit;

namespace FusedAttention.Comparison.Tests;

public class OutputCheckTests
{
    [Theory]
    [InlineData(AttentionElementType.Float32, true)]
    [InlineData(AttentionElementType.Float16, false)]
    [InlineData(AttentionElementType.BFloat16, true)]
    [InlineData(AttentionElementType.Int8, true)]
    [InlineData(AttentionElementType.Q8Block, false)]
    public void Our_output_passes_and_a_wrong_one_does_not(AttentionElementType type, bool isCausal)
    {
        var attentionCase = new AttentionCase(CaseKind.Prefill, type, 4, 2, 32, 20, 20, isCausal);
        using var inputs = new CaseInputs(attentionCase);
        using Contender ours = OurContender.Entry(CpuExecution.Default).Create(attentionCase, inputs);
        ours.Run();
        float[] output = new float[attentionCase.QueryElements];
        ours.CopyOutput(output);
        Assert.InRange(OutputCheck.SampledError(attentionCase, inputs, output), 0, OutputCheck.Tolerance(attentionCase.QueryType));

        output[^1] += 1; // in the last row, which is sampled
        Assert.InRange(OutputCheck.SampledError(attentionCase, inputs, output), 0.9, 1.1);
    }

    [Fact]
    public void Not_a_number_is_never_agreement()
    {
        Assert.Equal(0.5, OutputCheck.MaxAbsoluteError([1, 2], [1, 2.5f]));
        Assert.True(double.IsNaN(OutputCheck.MaxAbsoluteError([1, float.NaN, 3], [1, 2, 9])));
        Assert.False(OutputCheck.MaxAbsoluteError([float.PositiveInfinity], [1]) <= 1);
    }

    [Fact]
    public void Layouts_hold_the_same_numbers()
    {
        var attentionCase = new AttentionCase(CaseKind.Decode, AttentionElementType.Float16, 4, 2, 8, 1, 5, IsCausal: false);
        using var inputs = new CaseInputs(attentionCase);
        for (int token = 0; token < 5; token++)
        {
            for (int head = 0; head < 2; head++)
            {
                for (int d = 0; d < 8; d++)
                {
                    float value = One(inputs.Value, (((token * 2) + head) * 8) + d);
                    Assert.Equal(value, One(inputs.ValueHeadMajor, (((head * 5) + token) * 8) + d));
                    Assert.Equal(value, One(inputs.ValueTransposed, (((head * 8) + d) * 5) + token));
                }
            }
        }

        float[] query = new float[32];
        float[] single = new float[32];
        ElementRow.Load(AttentionElementType.Float16, inputs.Query, 0, query);
        ElementRow.Load(AttentionElementType.Float32, inputs.QueryAsSingle, 0, single);
        Assert.Equal(query, single);
    }

    private static float One(AlignedBuffer buffer, long index)
    {
        float[] one = new float[1];
        ElementRow.Load(AttentionElementType.Float16, buffer, index, one);
        return one[0];
    }
}
