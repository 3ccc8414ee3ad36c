using Xunit;

namespace FusedAttention.Testing;

/// <summary>What a call returned, per sequence: output [token, head, valueDim] widened exactly to float, log-sum-exp [head, token] (null if not wanted).</summary>
internal sealed record CallResult(float[][] Output, float[][]? LogSumExp)
{
    /// <summary>Compares with the oracle, element by element, each against its own limit.</summary>
    public void AssertClose(Problem problem, Solution expected)
    {
        for (int s = 0; s < problem.Sequences; s++)
        {
            int queries = problem.QueryLengths[s];
            for (int n = 0; n < expected.Output[s].Length; n++)
            {
                int d = n % problem.ValueDim;
                int h = n / problem.ValueDim % problem.Heads;
                int i = n / problem.ValueDim / problem.Heads;
                Check(problem, $"output[sequence {s}, query {i}, head {h}, dim {d}]", Output[s][n], expected.Output[s][n], expected.OutputLimit[s][n]);
            }

            if (LogSumExp is null) continue;
            for (int n = 0; n < expected.LogSumExp[s].Length; n++)
            {
                Check(
                    problem, $"lse[sequence {s}, head {n / queries}, query {n % queries}]", LogSumExp[s][n], expected.LogSumExp[s][n], expected.LogSumExpLimit[s][n]);
            }
        }
    }

    /// <summary>Fails at the first element whose bits differ.</summary>
    public void AssertSameBits(CallResult other, string what)
    {
        for (int s = 0; s < Output.Length; s++)
        {
            AssertSameBits(Output[s], other.Output[s], $"{what}: output of sequence {s}");
            if (LogSumExp is not null && other.LogSumExp is not null) AssertSameBits(LogSumExp[s], other.LogSumExp[s], $"{what}: log-sum-exp of sequence {s}");
        }
    }

    public static void AssertSameBits(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.False(float.IsNaN(expected[i]), $"{what}: element {i} is NaN.");
            if (BitConverter.SingleToInt32Bits(expected[i]) == BitConverter.SingleToInt32Bits(actual[i])) continue;
            Assert.Fail($"{what}: element {i} of {expected.Length} is {expected[i]:R} one way and {actual[i]:R} the other.");
        }
    }

    private static void Check(Problem problem, string where, float actual, double expected, double limit)
    {
        if (!double.IsFinite(expected))
        {
            if (expected.Equals((double)actual)) return;
        }
        else if (Math.Abs(actual - expected) <= limit)
        {
            return;
        }

        Assert.Fail($"{where} is {actual:R} but should be {expected:R}: error {Math.Abs(actual - expected):G3}, limit {limit:G3}\n{problem}");
    }
}
