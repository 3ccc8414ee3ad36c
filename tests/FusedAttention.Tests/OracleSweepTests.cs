using System.Globalization;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>
/// Random problems over all features, element types and memory layouts against the oracle, every element within its own error limit, with
/// NaN wherever the library has no right to read.
/// </summary>
/// <remarks>The environment variable FUSEDATTENTION_SEED = n runs case n alone.</remarks>
public sealed class OracleSweepTests
{
    private const int Cases = 700;

    public static TheoryData<int> Seeds()
    {
        string? only = Environment.GetEnvironmentVariable("FUSEDATTENTION_SEED");
        return only is null ? [.. Enumerable.Range(1, Cases)] : [int.Parse(only, CultureInfo.InvariantCulture)];
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Result_is_within_the_error_limit_of_the_oracle(int seed)
    {
        var generator = new ProblemGenerator(seed);
        Problem problem = generator.NextProblem();
        Caller.Run(problem, generator.NextArrangement()).AssertClose(problem, RowByRow.Solve(problem));
    }
}
