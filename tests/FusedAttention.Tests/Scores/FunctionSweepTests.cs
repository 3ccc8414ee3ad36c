using Xunit;

namespace FusedAttention.Tests.Scores;

/// <summary>Random problems with score and mask functions beside every other modification, on every instruction set, against the oracle; and what functions hide does not show.</summary>
public sealed class FunctionSweepTests
{
    private const int CasesPerTest = 25;

    public static TheoryData<CpuInstructionSet, int> Blocks(int blocks)
    {
        var data = new TheoryData<CpuInstructionSet, int>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            for (int block = 0; block < blocks; block++) data.Add(variant, 81_000 + (block * CasesPerTest));
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Blocks), 2)]
    public void Results_are_within_the_error_limits_of_the_oracle(CpuInstructionSet variant, int firstSeed)
    {
        for (int seed = firstSeed; seed < firstSeed + CasesPerTest; seed++)
        {
            (Problem problem, Arrangement arrangement) = Next(seed, variant);
            Caller.Run(problem, arrangement).AssertClose(problem, RowByRow.Solve(problem));
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Blocks), 3)]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give(CpuInstructionSet variant, int firstSeed)
    {
        int hidden = 0;
        for (int seed = firstSeed + 10_000; seed < firstSeed + 10_000 + CasesPerTest; seed++)
        {
            (Problem problem, Arrangement arrangement) = Next(seed, variant);
            var generator = new ProblemGenerator(seed);
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            CallResult expected = Caller.Run(HiddenKeys.With(problem, victims, _ => 0, _ => 0), arrangement);
            float[] specials = [float.NaN, float.PositiveInfinity, float.NegativeInfinity];
            Problem poisoned = HiddenKeys.With(problem, victims, n => specials[n % 3], n => specials[(n / 3) % 3]);
            hidden += HiddenKeys.AssertHiddenBits(expected, Caller.Run(poisoned, arrangement), poisoned, victims);

            Problem infinite = HiddenKeys.With(problem, victims, _ => 0, _ => float.PositiveInfinity);
            CallResult actual = Caller.Run(infinite, arrangement);
            HiddenKeys.AssertHiddenBits(expected, actual, infinite, victims);
            HiddenKeys.AssertSeenInfinities(actual, infinite, victims);
        }

        Assert.True(hidden > 300, $"Only {hidden} rows had something hidden from them.");
    }

    /// <summary>Rows beyond the range of floats go through double precision, where functions are evaluated too.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(70)]
    public void Rows_in_double_precision_have_the_functions(int queries)
    {
        for (int seed = 0; seed < 12; seed++)
        {
            var generator = new ProblemGenerator(91_000 + seed) { Form = CallForm.Dense };
            Problem problem = TestFunctions.Add(generator, HiddenKeyProblems.Of(queries, 90, AttentionElementType.Float32, "causal"));

            // Beyond the largest scale that 32 bits are trusted with, and queries that bring scores back to their size.
            float[][] query = [[.. problem.Query[0].Select(static x => x / 8192)]];
            problem = problem with { Query = query, Options = problem.Options with { Scale = 2048 } };
            Caller.Run(problem).AssertClose(problem, RowByRow.Solve(problem));
        }
    }

    private static (Problem Problem, Arrangement Arrangement) Next(int seed, CpuInstructionSet variant)
    {
        var generator = new ProblemGenerator(seed);
        Problem problem = TestFunctions.Add(generator, generator.NextProblem());
        return (problem with { Execution = problem.Execution with { InstructionSet = variant } }, generator.NextArrangement());
    }
}
