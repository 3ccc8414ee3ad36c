using System.Globalization;
using Xunit;

namespace FusedAttention.Tests;

/// <summary>
/// Random problems over all features, element types and memory layouts against the oracle, every element within its own error limit, with
/// NaN wherever the library has no right to read.
/// </summary>
/// <remarks>The environment variable FUSEDATTENTION_SEED = n runs case n in place of the first 200.</remarks>
public sealed class OracleSweepTests
{
    private const int FirstCases = 200;
    private const int Cases = 700;

    public static TheoryData<int> FirstSeeds()
    {
        string? only = Environment.GetEnvironmentVariable("FUSEDATTENTION_SEED");
        return only is null ? [.. Enumerable.Range(1, FirstCases)] : [int.Parse(only, CultureInfo.InvariantCulture)];
    }

    public static TheoryData<int> OtherSeeds() => [.. Enumerable.Range(FirstCases + 1, Cases - FirstCases)];

    [Theory]
    [MemberData(nameof(FirstSeeds))]
    public void Result_is_within_the_error_limit_of_the_oracle(int seed) => Check(seed);

    [Slow]
    [Theory]
    [MemberData(nameof(OtherSeeds))]
    public void Result_of_more_problems_is_within_the_error_limit_of_the_oracle(int seed) => Check(seed);

    private static void Check(int seed)
    {
        var generator = new ProblemGenerator(seed);
        Problem problem = generator.NextProblem();
        Caller.Run(problem, generator.NextArrangement()).AssertClose(problem, CpuLimits.Of(problem));
    }
}
