using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>The naive oracle against the reference set, whose expected values come from two programs that share no code with it.</summary>
public sealed class OracleTests
{
    [Slow]
    [Fact]
    public void Agrees_with_every_case_of_the_reference_set()
    {
        string? folder = SharedData.ReferenceSet();
        Assert.SkipWhen(folder is null, "There is no reference set, neither in the repository nor beside it.");
        string[] files = Directory.GetFiles(folder!, "*.safetensors");
        Assert.NotEmpty(files);
        foreach (string file in files)
        {
            ReferenceCase reference = ReferenceCase.Load(file);
            CallInputs call = ReferenceRunner.Call(reference, RunOptions.Default);
            OracleResult result = CallOracle.Compute(call, Environment.ProcessorCount, null, TestContext.Current.CancellationToken);

            // The expected output is float64 rounded once to float32; the log-sum-exp is float64.
            AssertClose(reference.Name, result.Output, reference.ExpectedOutput!.ToDoubles(), relative: 6e-8, absolute: 1e-12);
            AssertClose(reference.Name, result.LogSumExp, reference.ExpectedLogSumExp!.ToDoubles(), relative: 1e-13, absolute: 1e-13);
            if (reference.ExpectedLogSumExpOfKeys is { } ofKeys) AssertClose(reference.Name, result.LogSumExpOfKeys, ofKeys.ToDoubles(), relative: 1e-13, absolute: 1e-13);
        }
    }

    [Fact]
    public void An_infinite_or_nan_bias_follows_the_formulas()
    {
        double[] biases = [0, 0];
        NaiveProblem problem = NaiveProblem.Create(
            1, 2, 1, 1, 1, 1, [1], [0, 0], [2, 4], AttentionOptions.Default, bias: (_, _, key) => biases[key]);

        (biases[0], biases[1]) = (double.NegativeInfinity, 0);
        NaiveResult excluded = NaiveAttention.Compute(problem);
        Assert.Equal(4, excluded.Output[0]);
        Assert.Equal(0, excluded.LogSumExp[0]);

        (biases[0], biases[1]) = (float.MinValue, float.MinValue);
        Assert.Equal(3, NaiveAttention.Compute(problem).Output[0]);

        (biases[0], biases[1]) = (double.NegativeInfinity, double.NegativeInfinity);
        NaiveResult empty = NaiveAttention.Compute(problem);
        Assert.Equal(0, empty.Output[0]);
        Assert.Equal(double.NegativeInfinity, empty.LogSumExp[0]);

        (biases[0], biases[1]) = (double.PositiveInfinity, 0);
        NaiveResult infinite = NaiveAttention.Compute(problem);
        Assert.Equal(double.NaN, infinite.Output[0]);
        Assert.Equal(double.PositiveInfinity, infinite.LogSumExp[0]);

        (biases[0], biases[1]) = (double.NaN, 0);
        NaiveResult notANumber = NaiveAttention.Compute(problem);
        Assert.Equal(double.NaN, notANumber.Output[0]);
        Assert.Equal(double.NaN, notANumber.LogSumExp[0]);
    }

    [Fact]
    public void A_query_offset_overrides_the_alignment()
    {
        var options = new AttentionOptions { Mask = AttentionMask.Causal, Alignment = AttentionAlignment.TopLeft, QueryOffset = 1 };
        NaiveProblem problem = NaiveProblem.Create(1, 3, 1, 1, 1, 1, [0], [0, 0, 0], [1, 2, 30], options);

        Assert.Equal(1.5, NaiveAttention.Compute(problem).Output[0], 15);
    }

    private static void AssertClose(string name, double[] actual, double[] expected, double relative, double absolute)
    {
        ErrorSummary error = ErrorSummary.Compare(actual, expected, i => absolute + (relative * Math.Abs(expected[i])));
        Assert.True(error.Passed, $"{name}: error {error.WorstError} at {error.WorstIndex}, limit {error.WorstLimit}");
    }
}
