using FusedAttention.Checking.Oracle;
using Xunit;

namespace FusedAttention.Checking.Tests;

/// <summary>
/// The tool's naive oracle and the tests' own (which adds error limits) were written apart from the same page of semantics: where they agree on random
/// problems, neither has its own idea of a window, an offset or a mask.
/// </summary>
[Slow]
public sealed class OracleAgreementTests
{
    [Fact]
    public void Two_oracles_agree_on_random_problems()
    {
        for (int seed = 1; seed <= 250; seed++)
        {
            Problem problem = new ProblemGenerator(80_000 + seed).NextProblem();
            Solution solution = RowByRow.Solve(problem);
            for (int s = 0; s < problem.Sequences; s++)
            {
                NaiveResult naive = NaiveAttention.Compute(AsNaive(problem, s));
                AssertClose(naive.Output, solution.Output[s], $"output of sequence {s}, {problem}");
                AssertClose(naive.LogSumExp, solution.LogSumExp[s], $"log-sum-exp of sequence {s}, {problem}");
            }
        }
    }

    private static NaiveProblem AsNaive(Problem problem, int sequence)
    {
        int batch = problem.Form == CallForm.Dense ? sequence : 0;
        int first = problem.Form == CallForm.Dense ? 0 : problem.FirstQuery(sequence);
        return NaiveProblem.Create(
            problem.QueryLengths[sequence], problem.KeyLengths[sequence], problem.Heads, problem.KeyValueHeads, problem.KeyDim, problem.ValueDim,
            [.. problem.Query[sequence].Select(x => (double)x)], [.. problem.Key[sequence].Select(x => (double)x)], [.. problem.Value[sequence].Select(x => (double)x)],
            problem.Options, problem.QueryOffsets?[sequence],
            problem.Mask is { } mask ? (h, i, j) => mask.At(batch, h, first + i, j) : null,
            problem.Bias is { } bias ? (h, i, j) => bias.At(batch, h, first + i, j) : null);
    }

    private static void AssertClose(double[] expected, double[] actual, string what)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (int i = 0; i < expected.Length; i++)
        {
            if (actual[i].Equals(expected[i]) || Math.Abs(actual[i] - expected[i]) <= 1e-11 * (1 + Math.Abs(expected[i]))) continue;
            Assert.Fail($"{what}: element {i} is {expected[i]:R} by one oracle and {actual[i]:R} by the other.");
        }
    }
}
