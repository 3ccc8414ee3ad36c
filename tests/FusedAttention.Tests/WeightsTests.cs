using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>Weights of a row are what a call gives when values are the unit vectors.</summary>
public sealed class WeightsTests
{
    private const int Batch = 2, Queries = 5, Keys = 9, Heads = 4, KeyValueHeads = 2, Dim = 6;

    [Fact]
    public void Weights_are_the_output_of_a_call_over_unit_vectors()
    {
        var everything = new AttentionOptions
        {
            Mask = AttentionMask.CausalWindow(6), Scale = 0.7f, SoftCap = 3, AlibiSlopes = AlibiSlopes.ForHeads(Heads), SinkLogits = [0.5f, -1, 2, float.NegativeInfinity],
        };
        Check<float, float>(AttentionOptions.Default, withOperands: false);
        Check<float, Half>(new() { Mask = AttentionMask.Causal }, withOperands: false);
        Check<float, float>(new() { Mask = AttentionMask.Causal, QueryOffset = -2 }, withOperands: false);
        Check<BFloat16, BFloat16>(everything, withOperands: false);
        Check<float, BFloat16>(everything, withOperands: true);
    }

    [Fact]
    public void What_is_not_there_is_refused()
    {
        Tensor<float> query = Tensor.CreateFromShape<float>([Queries, Heads, Dim]), key = Tensor.CreateFromShape<float>([Keys, KeyValueHeads, Dim]);
        double[] weights = new double[Keys];
        Assert.Throws<ArgumentOutOfRangeException>("batchIndex", () => Attention.GetWeights(query, key, 1, 0, 0, weights));
        Assert.Throws<ArgumentOutOfRangeException>("queryIndex", () => Attention.GetWeights(query, key, 0, Queries, 0, weights));
        Assert.Throws<ArgumentOutOfRangeException>("head", () => Attention.GetWeights(query, key, 0, 0, -1, weights));
        Assert.Throws<ArgumentException>("weights", () => Attention.GetWeights(query, key, 0, 0, 0, new double[Keys + 1]));
        Assert.StartsWith(
            "key has 2 key/value heads, which do not divide the 3 query heads.",
            Assert.Throws<ArgumentException>("key", () => Attention.GetWeights(Tensor.CreateFromShape<float>([1, 3, Dim]), key, 0, 0, 0, weights)).Message, StringComparison.Ordinal);
    }

    private static void Check<TQuery, TKeyValue>(AttentionOptions options, bool withOperands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        var generator = new ProblemGenerator(8);
        AttentionElementType queryType = Elements.TypeOf<TQuery>();
        Tensor<TQuery> query = Tensor.Create(Elements.FromAll<TQuery>(generator.Numbers(Batch * Queries * Heads * Dim, 2, queryType)), [Batch, Queries, Heads, Dim]);
        Tensor<TKeyValue> key = Tensor.Create(Elements.FromAll<TKeyValue>(generator.Numbers(Batch * Keys * KeyValueHeads * Dim, 2, Elements.TypeOf<TKeyValue>())), [Batch, Keys, KeyValueHeads, Dim]);
        Tensor<TKeyValue> value = Tensor.CreateFromShape<TKeyValue>([Batch, Keys, KeyValueHeads, Keys]);
        for (int b = 0; b < Batch; b++)
            for (int j = 0; j < Keys; j++)
                for (int h = 0; h < KeyValueHeads; h++) value[b, j, h, j] = Elements.From<TKeyValue>(1);
        AttentionOperands operands = default;
        if (withOperands)
        {
            operands.KeyLengths = [Keys, 7];
            operands.Bias = Tensor.Create(generator.Numbers(Queries * Keys, 1, AttentionElementType.Float32), [Queries, Keys]);
            operands.BooleanMask = Tensor.Create([.. Enumerable.Range(0, Keys).Select(static j => j != 4)], [1, Keys]).AsReadOnlyTensorSpan();
        }

        Tensor<TQuery> output = Tensor.CreateFromShape<TQuery>([Batch, Queries, Heads, Keys]);
        Attention.Forward(query, key, value, output, options, operands);
        double[] weights = new double[Keys];
        for (int b = 0; b < Batch; b++)
        {
            for (int i = 0; i < Queries; i++)
            {
                for (int h = 0; h < Heads; h++)
                {
                    weights.AsSpan().Fill(double.NaN);
                    Attention.GetWeights(query, key, b, i, h, weights, options, operands);
                    for (int j = 0; j < Keys; j++)
                        Assert.Equal(weights[j], Elements.ToSingle(output[b, i, h, j]), 1e-6 + Elements.HalfUlp(queryType, weights[j]));
                }
            }
        }
    }
}
