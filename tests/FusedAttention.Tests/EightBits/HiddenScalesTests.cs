using Xunit;

namespace FusedAttention.Tests.EightBits;

/// <summary>What a row may not see cannot change a bit of it: NaN, infinite and huge scales, NaN codes and blocks of NaN included.</summary>
public sealed class HiddenScalesTests
{
    private const int CasesPerTest = 30;

    public static TheoryData<CpuInstructionSet, AttentionElementType> Cases()
    {
        var cases = new TheoryData<CpuInstructionSet, AttentionElementType>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            foreach (AttentionElementType type in (AttentionElementType[])[AttentionElementType.Int8, AttentionElementType.Float8E4M3, AttentionElementType.Q8Block]) cases.Add(variant, type);
        }

        return cases;
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Cases))]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give(CpuInstructionSet variant, AttentionElementType type)
    {
        int hidden = 0;
        for (int seed = 90_000; seed < 90_000 + CasesPerTest; seed++)
        {
            var generator = new ProblemGenerator(seed);
            Problem problem = generator.NextEightBitProblem(type);
            if (!HiddenKeys.MayHide(problem)) continue;
            bool hasBlocks = type == AttentionElementType.Q8Block;
            problem = problem with { Execution = problem.Execution with { InstructionSet = variant } };

            // One scale a key, so that the victim's is its own.
            if (!hasBlocks) problem = HiddenScales.OfTokens(generator, problem);
            Arrangement arrangement = generator.NextArrangement();
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            CallResult expected = Caller.Run(HiddenScales.Zeros(problem, victims), arrangement);
            Problem poisoned = HiddenScales.Poisoned(problem, victims, float.NaN, float.PositiveInfinity, hasBlocks ? 60000 : 1e30f, float.NaN);
            hidden += HiddenKeys.AssertHiddenBits(expected, Caller.Run(poisoned, arrangement), poisoned, victims);
        }

        Assert.True(hidden > 300, $"Only {hidden} rows had something hidden from them.");
    }

    [Fact]
    public void A_scale_of_zero_makes_a_key_of_zeros_and_excludes_nothing()
    {
        foreach (int queries in (int[])[1, 30])
        {
            Problem problem = EightBitSweepTests.Plain(AttentionElementType.Int8, queries, keys: 4);
            problem = problem with { KeyScales = [new float[8]], ValueScales = [[.. Enumerable.Repeat(1f, 8)]] };
            CallResult result = Caller.Run(problem);
            for (int h = 0; h < 4; h++)
            {
                Assert.Equal((float)Math.Log(4), result.LogSumExp![0][h * queries], 1e-6f);
                for (int d = 0; d < problem.ValueDim; d++)
                {
                    float mean = Enumerable.Range(0, 4).Average(j => problem.Value[0][(((j * 2) + (h / 2)) * problem.ValueDim) + d]);
                    Assert.Equal(mean, result.Output[0][(h * problem.ValueDim) + d], 1e-5f);
                }
            }
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(20)]
    public void A_NaN_code_that_a_row_sees_is_the_callers(int queries)
    {
        Problem problem = EightBitSweepTests.Plain(AttentionElementType.Float8E4M3, queries, keys: 40);
        problem.Value[0][(7 * 2 * problem.ValueDim) + 3] = float.NaN;
        CallResult result = Caller.Run(problem);
        for (int n = 0; n < result.Output[0].Length; n++)
        {
            bool seesIt = n % problem.ValueDim == 3 && n / problem.ValueDim % problem.Heads < 2;
            Assert.Equal(seesIt, float.IsNaN(result.Output[0][n]));
        }
    }
}
