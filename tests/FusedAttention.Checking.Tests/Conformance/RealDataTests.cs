using FusedAttention.Checking.Formats;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>Queries, keys and values of a trained model (200 tokens, 8 query and 4 key/value heads of 8): peaked rows and outlier channels that random numbers do not have.</summary>
[Slow]
public sealed class RealDataTests
{
    public static TheoryData<CpuInstructionSet, int> Layers()
    {
        var cases = new TheoryData<CpuInstructionSet, int>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            for (int layer = 0; layer < 5; layer++) cases.Add(variant, layer);
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void Causal_attention_of_a_trained_layer(CpuInstructionSet variant, int layer)
    {
        string? folder = ReferenceData.Beside("real-qkv");
        Assert.SkipWhen(folder is null, "The trained model's tensors (shared/data/real-qkv) do not lie beside the checkout.");
        using var file = new SafeTensorsFile(Path.Combine(folder, $"stories260K-layer{layer}.safetensors"));
        Problem problem = new()
        {
            Name = $"layer {layer}",
            Form = CallForm.Dense,
            Heads = 8,
            KeyValueHeads = 4,
            KeyDim = 8,
            ValueDim = 8,
            QueryLengths = [200],
            KeyLengths = [200],
            KeyCapacity = 200,
            Query = [Floats("q")],
            Key = [Floats("k")],
            Value = [Floats("v")],
            Options = new AttentionOptions { Mask = AttentionMask.Causal },
            Execution = new CpuExecution { InstructionSet = variant },
        };
        CallResult actual = Caller.Run(problem);
        Solution exact = RowByRow.Solve(problem);
        actual.AssertClose(problem, exact);

        // The stored results are float64 ones rounded to float32: half a unit in the last place more than the limit.
        AssertStored(Floats("o_causal"), actual.Output[0], exact.OutputLimit[0]);
        AssertStored(Floats("lse_causal"), actual.LogSumExp![0], exact.LogSumExpLimit[0]);

        foreach ((CallForm form, bool isRowInvariant) in ((CallForm, bool)[])[(CallForm.Packed, false), (CallForm.Paged, false), (CallForm.Dense, true)])
        {
            Problem other = problem with { Form = form, BlockSize = 16, Options = problem.Options with { RowInvariant = isRowInvariant } };
            Caller.Run(other).AssertClose(other, exact);
        }

        float[] Floats(string name) => file.Read(name).Elements<float>().ToArray();
    }

    private static void AssertStored(float[] expected, float[] actual, double[] limits)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            double limit = limits[i] + Elements.HalfUlp(AttentionElementType.Float32, expected[i]);
            Assert.True(Math.Abs(expected[i] - (double)actual[i]) <= limit, $"Element {i} is {actual[i]:R}; stored is {expected[i]:R}.");
        }
    }
}
