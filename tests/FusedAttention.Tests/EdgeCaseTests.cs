using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>Nothing, one thing, and numbers at the ends of their ranges.</summary>
public sealed class EdgeCaseTests
{
    public static TheoryData<CallForm> Forms => [.. Enum.GetValues<CallForm>()];

    public static TheoryData<AttentionElementType> Types => [.. Elements.Wide];

    [Fact]
    public void An_empty_batch_is_no_error()
    {
        Attention.Forward<float, float>([], [], [], [], new AttentionShape(0, 5, 7, 4, 2, 8));
        Attention.Forward<float, float>(Empty(0, 5, 4, 8), Empty(0, 7, 2, 8), Empty(0, 7, 2, 8), Empty(0, 5, 4, 8));
        Attention.ForwardVariableLength<float, float>(Empty(0, 4, 8), Empty(0, 2, 8), Empty(0, 2, 8), Empty(0, 4, 8), [0], [0]);
        Attention.ForwardPaged<float, float>(
            Empty(0, 4, 8), Empty(0, 16, 2, 8), Empty(0, 16, 2, 8), Empty(0, 4, 8), new PagedSequences([0], [], [], 3));
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void No_queries_is_no_error(CallForm form)
    {
        Problem problem = Create(form, AttentionElementType.Float32, queries: 0, keys: 20);
        Assert.Empty(Caller.Run(problem).Output[0]);
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void No_keys_give_zeros_and_a_log_sum_exp_of_negative_infinity(CallForm form)
    {
        foreach (int queries in (int[])[1, 9])
        {
            Problem problem = Create(form, AttentionElementType.Float32, queries, keys: 0);
            CallResult result = Caller.Run(problem);
            Assert.All(result.Output[0], x => Assert.Equal(0, x));
            Assert.All(result.LogSumExp![0], x => Assert.Equal(float.NegativeInfinity, x));

            result = Caller.Run(problem with { Options = new AttentionOptions { SinkLogits = [0.5f, -3], RowInvariant = true } });
            Assert.All(result.Output[0], x => Assert.Equal(0, x));
            Assert.Equal([.. Enumerable.Repeat(0.5f, queries), .. Enumerable.Repeat(-3f, queries)], result.LogSumExp![0]);
        }
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void One_key_gives_its_value(AttentionElementType type)
    {
        foreach (int dim in (int[])[1, 2, 17, 64])
        {
            Problem problem = Create(CallForm.Dense, type, queries: 1, keys: 1, dim: dim);
            CallResult result = Caller.Run(problem);
            result.AssertClose(problem, CpuLimits.Of(problem));
            // A float may be off by the rounding of its own weight; two bytes cannot show that.
            if (type == AttentionElementType.Float32) continue;
            for (int h = 0; h < 2; h++) Assert.Equal(problem.Value[0], result.Output[0][(h * dim)..((h + 1) * dim)]);
        }
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Equal_scores_give_the_mean(AttentionElementType type)
    {
        Problem problem = Create(CallForm.Dense, type, queries: 5, keys: 64);
        problem = problem with { Query = [new float[problem.Query[0].Length]] };
        Caller.Run(problem).AssertClose(problem, CpuLimits.Of(problem));
        Assert.Equal(Math.Log(64), Caller.Run(problem).LogSumExp![0][0], 1e-6);
    }

    [Theory]
    [InlineData(1f)]
    [InlineData(-1f)]
    public void Logits_of_forty_thousand_neither_overflow_nor_lose_the_softmax(float sign)
    {
        foreach (AttentionElementType type in Elements.Wide)
        {
            foreach (int queries in (int[])[1, 33])
            {
                // Integers with a power of two for a scale: every logit is exact in float, about +-40000 and a few units apart.
                Problem problem = Create(CallForm.Dense, type, queries, keys: 150, dim: 32);
                var random = new Random(3);
                problem = problem with
                {
                    Options = new AttentionOptions { Scale = 0.25f },
                    Query = [[.. problem.Query[0].Select((_, n) => n % 32 == 0 ? sign * 160 : n % 32 == 1 ? 1f : 0)]],
                    Key = [[.. problem.Key[0].Select((_, n) => n % 32 == 0 ? 1000f : n % 32 == 1 ? random.Next(-20, 21) : 0)]],
                };
                CallResult result = Caller.Run(problem);
                Assert.All(result.Output[0], x => Assert.True(float.IsFinite(x)));
                Assert.All(result.LogSumExp![0], x => Assert.InRange(sign * x, 39_900, 40_100));
                result.AssertClose(problem, CpuLimits.Of(problem));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void A_row_of_finite_minimum_biases_is_a_plain_mean(AttentionElementType biasType)
    {
        foreach (int queries in (int[])[1, 20])
        {
            Problem problem = Create(CallForm.Dense, AttentionElementType.Float32, queries, keys: 40);
            var bias = new float[queries * 40];
            Array.Fill(bias, float.MinValue, 0, 40);
            problem = problem with { Bias = new(bias, 1, 1, queries, 40), BiasType = biasType == AttentionElementType.Float16 ? AttentionElementType.Float32 : biasType };
            if (biasType == AttentionElementType.BFloat16) problem = problem with { Bias = new([.. bias.Select(x => x == 0 ? 0 : (float)BFloat16.MinValue)], 1, 1, queries, 40) };
            CallResult result = Caller.Run(problem);
            result.AssertClose(problem, CpuLimits.Of(problem));
            Assert.Equal(Enumerable.Range(0, 40).Average(j => problem.Value[0][j * problem.ValueDim]), result.Output[0][0], 1e-5);
        }
    }

    [Fact]
    public void A_row_of_negative_infinite_biases_or_of_false_is_empty()
    {
        foreach (int queries in (int[])[1, 20])
        {
            Problem problem = Create(CallForm.Dense, AttentionElementType.Float32, queries, keys: 40);
            float[] bias = [.. Enumerable.Range(0, queries * 40).Select(n => n < 40 ? float.NegativeInfinity : 0)];
            bool[] mask = [.. bias.Select(x => x == 0)];
            foreach (Problem empty in (Problem[])[problem with { Bias = new(bias, 1, 1, queries, 40) }, problem with { Mask = new(mask, 1, 1, queries, 40) }])
            {
                CallResult result = Caller.Run(empty);
                Assert.All(result.Output[0][..(2 * problem.ValueDim)], x => Assert.Equal(0, x));
                Assert.Equal(float.NegativeInfinity, result.LogSumExp![0][0]);
                result.AssertClose(empty, CpuLimits.Of(empty));
            }
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void A_bias_that_is_not_a_number_spoils_its_own_row_only(float poison)
    {
        const int queries = 40;
        const int keys = 70;
        Problem problem = Create(CallForm.Dense, AttentionElementType.Float32, queries, keys);
        CallResult clean = Caller.Run(problem with { Bias = new(new float[queries * keys], 1, 1, queries, keys) });
        var bias = new float[queries * keys];
        bias[(7 * keys) + 33] = poison;
        CallResult result = Caller.Run(problem with { Bias = new(bias, 1, 1, queries, keys) });
        int row = 2 * problem.ValueDim;
        for (int i = 0; i < queries; i++)
        {
            if (i == 7) Assert.All(result.Output[0][(i * row)..((i + 1) * row)], x => Assert.True(float.IsNaN(x), $"{x}"));
            else CallResult.AssertSameBits(clean.Output[0].AsSpan(i * row, row), result.Output[0].AsSpan(i * row, row), $"row {i}");
        }
    }

    [Fact]
    public void A_sink_of_negative_infinity_has_no_weight_and_a_large_one_all()
    {
        Problem problem = Create(CallForm.Dense, AttentionElementType.Float32, queries: 12, keys: 30);
        Solution plain = CpuLimits.Of(problem);
        Caller.Run(problem with { Options = new AttentionOptions { SinkLogits = [float.NegativeInfinity, float.NegativeInfinity] } }).AssertClose(problem, plain);

        CallResult drowned = Caller.Run(problem with { Options = new AttentionOptions { SinkLogits = [3e38f, 1000] } });
        Assert.All(drowned.Output[0], x => Assert.Equal(0, x));
        Assert.Equal(3e38f, drowned.LogSumExp![0][0]);
        Assert.Equal(1000f, drowned.LogSumExp![0][12]);
    }

    [Theory]
    [InlineData(1L << 40, false)]
    [InlineData(-(1L << 40), true)]
    public void The_farthest_query_offsets_see_everything_or_nothing(long offset, bool isEmpty)
    {
        Problem problem = Create(CallForm.Dense, AttentionElementType.Float32, queries: 5, keys: 9);
        problem = problem with { Options = new AttentionOptions { Mask = AttentionMask.Causal, QueryOffset = offset } };
        CallResult result = Caller.Run(problem);
        result.AssertClose(problem, CpuLimits.Of(problem));
        Assert.Equal(isEmpty, float.IsNegativeInfinity(result.LogSumExp![0][0]));
        Problem window = problem with { Options = problem.Options with { Mask = AttentionMask.Window(int.MaxValue, int.MaxValue) } };
        Caller.Run(window).AssertClose(window, CpuLimits.Of(window));
    }

    [Theory]
    [InlineData(1000, 3)]
    [InlineData(3, 1000)]
    [InlineData(4096, 4096)]
    public void Dimensions_far_beyond_the_usual_work(int keyDim, int valueDim)
    {
        foreach (int queries in (int[])[1, 18])
        {
            Problem problem = Create(CallForm.Dense, AttentionElementType.Float16, queries, keys: 21, dim: keyDim, valueDim: valueDim);
            Caller.Run(problem).AssertClose(problem, CpuLimits.Of(problem));
        }
    }

    /// <summary>Chunks of keys grow with the context, so that there are never more than a fixed number of them: lengths on both sides of such a step.</summary>
    [Slow]
    [Theory]
    [InlineData(32_767)]
    [InlineData(32_769)]
    [InlineData(70_001)]
    public void Decoding_over_tens_of_thousands_of_keys(int keys)
    {
        Problem problem = Create(CallForm.Dense, AttentionElementType.Float16, queries: 2, keys, dim: 8);
        problem = problem with { Options = new AttentionOptions { Mask = AttentionMask.Causal, SinkLogits = [1, -1] } };
        CallResult expected = Caller.Run(problem);
        expected.AssertClose(problem, CpuLimits.Of(problem));
        Caller.Run(problem with { Form = CallForm.Paged, BlockSize = 33 }).AssertSameBits(expected, "paged");
        Problem invariant = problem with { Options = problem.Options with { RowInvariant = true } };
        Caller.Run(invariant).AssertClose(invariant, CpuLimits.Of(invariant));
    }

    [Fact]
    public void Values_at_the_end_of_half_precision_do_not_overflow_in_the_mean()
    {
        Problem problem = Create(CallForm.Dense, AttentionElementType.Float16, queries: 3, keys: 100);
        problem = problem with { Value = [[.. problem.Value[0].Select(_ => 65504f)]] };
        Assert.All(Caller.Run(problem).Output[0], x => Assert.Equal(65504f, x));
    }

    /// <summary>An array, not an empty span: tensor spans refuse a null reference.</summary>
    private static TensorSpan<float> Empty(params ReadOnlySpan<nint> lengths) => new(Array.Empty<float>(), lengths);

    private static Problem Create(CallForm form, AttentionElementType type, int queries, int keys, int dim = 24, int? valueDim = null)
    {
        var problem = new Problem
        {
            Name = "edge",
            Form = form,
            QueryType = type,
            KeyValueType = type,
            Heads = 2,
            KeyValueHeads = 1,
            KeyDim = dim,
            ValueDim = valueDim ?? dim,
            QueryLengths = [queries],
            KeyLengths = [keys],
            KeyCapacity = keys,
            BlockSize = 4,
            Query = [],
            Key = [],
            Value = [],
        };
        return new ProblemGenerator(queries + (keys * 100)).Fill(problem);
    }
}
