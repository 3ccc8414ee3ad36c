using Xunit;

namespace FusedAttention.Tests.EightBits;

/// <summary>Random problems with keys and values of 8 bits, over all features, forms of scales and layouts, against the oracle, with NaN wherever the library has no right to read.</summary>
public sealed class EightBitSweepTests
{
    private const int CasesPerTest = 25;

    public static TheoryData<AttentionElementType, CpuInstructionSet, int> Cases() => Blocks(0, 1);

    public static TheoryData<AttentionElementType, CpuInstructionSet, int> MoreCases() => Blocks(1, 8);

    [Theory]
    [MemberData(nameof(Cases))]
    public void Results_are_within_the_error_limit_of_the_oracle(AttentionElementType type, CpuInstructionSet variant, int firstSeed) => Check(type, variant, firstSeed);

    [Slow]
    [Theory]
    [MemberData(nameof(MoreCases))]
    public void Results_of_more_problems_are_within_the_error_limit_of_the_oracle(AttentionElementType type, CpuInstructionSet variant, int firstSeed) => Check(type, variant, firstSeed);

    /// <summary>Nothing beyond a tensor is read: scales, codes and blocks end where an inaccessible page begins, or begin where one ends.</summary>
    [Slow]
    [Theory]
    [InlineData(Placement.GuardAfter)]
    [InlineData(Placement.GuardBefore)]
    public void Nothing_beyond_a_tensor_is_read(Placement placement)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Guard pages are mapped on Linux only.");
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            for (int seed = 82_000; seed < 82_040; seed++)
            {
                var generator = new ProblemGenerator(seed) { MostWork = 400_000 };
                Problem problem = generator.NextEightBitProblem();
                problem = problem with { Execution = problem.Execution with { InstructionSet = variant } };
                CallResult expected = Caller.Run(problem, generator.NextArrangement() with { WantsLogSumExp = seed % 2 == 0 });
                Caller.Run(problem, generator.NextArrangement(placement) with { WantsLogSumExp = seed % 2 == 0 }).AssertSameBits(expected, problem.ToString());
            }
        }
    }

    /// <summary>Threads, layout and blocks change no bit.</summary>
    [Slow]
    [Fact]
    public void Bits_do_not_depend_on_threads_and_memory()
    {
        for (int seed = 83_000; seed < 83_060; seed++)
        {
            var generator = new ProblemGenerator(seed, isLarge: seed % 6 == 0);
            Problem problem = generator.NextEightBitProblem();
            CallResult one = Caller.Run(problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = 1 } }, generator.NextArrangement() with { WantsLogSumExp = seed % 2 == 0 });
            Caller.Run(problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = 3 } }, generator.NextArrangement() with { WantsLogSumExp = seed % 2 == 0 }).AssertSameBits(one, problem.ToString());
        }
    }

    /// <summary>A prefill row by row, in chunks and whole.</summary>
    [Theory]
    [InlineData(AttentionElementType.Int8)]
    [InlineData(AttentionElementType.Float8E4M3)]
    [InlineData(AttentionElementType.Q8Block)]
    public void Row_invariant_chunks_equal_the_whole_prefill(AttentionElementType type)
    {
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            Problem whole = Plain(type, queries: 70, keys: 100) with
            {
                Options = new AttentionOptions { Mask = AttentionMask.Causal, RowInvariant = true },
                Execution = new CpuExecution { InstructionSet = variant },
            };
            CallResult expected = Caller.Run(whole);
            int row = whole.Heads * whole.ValueDim;
            int[] cuts = [0, 1, 2, 18, 35, 69, 70];
            for (int c = 1; c < cuts.Length; c++)
            {
                CallResult part = Caller.Run(whole.Chunk(cuts[c - 1], cuts[c]));
                CallResult.AssertSameBits(expected.Output[0].AsSpan(cuts[c - 1] * row, (cuts[c] - cuts[c - 1]) * row), part.Output[0], $"queries from {cuts[c - 1]}, {variant}");
            }
        }
    }

    /// <summary>Finite results are right where scales leave the range in which 32 bits are trusted.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(40)]
    public void Scales_may_be_extreme(int queries)
    {
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            foreach (AttentionElementType type in (AttentionElementType[])[AttentionElementType.Int8, AttentionElementType.Float8E4M3])
            {
                foreach (int exponent in (int[])[-120, -60, 20, 40, 90, 120])
                {
                    Problem problem = Plain(type, queries, keys: 150) with { Execution = new CpuExecution { InstructionSet = variant } };
                    problem = problem with
                    {
                        Name = $"scales of keys 2^{exponent}",
                        Query = [[.. problem.Query[0].Select(x => MathF.ScaleB(x, -exponent))]],
                        KeyScales = [[.. problem.KeyScales![0].Select(x => MathF.ScaleB(x, exponent))]],
                    };
                    Caller.Run(problem).AssertClose(problem, CpuLimits.Of(problem));
                }

                Problem values = Plain(type, queries, keys: 150) with { Name = "scales of values", Execution = new CpuExecution { InstructionSet = variant } };
                values = values with { ValueScales = [[.. values.ValueScales![0].Select(static x => MathF.ScaleB(x, 118))]] };
                Caller.Run(values).AssertClose(values, CpuLimits.Of(values));
            }
        }
    }

    /// <summary>A token's scales of all heads lie side by side and are gathered in blocks of tokens and heads: whole blocks, more, and what is left, in tiles that begin anywhere and in blocks of a pool.</summary>
    [Theory]
    [InlineData(8, 0)]
    [InlineData(11, 0)]
    [InlineData(24, 0)]
    [InlineData(8, 3)]
    [InlineData(19, 16)]
    [InlineData(8, 100)]
    public void Scales_of_many_heads_are_each_token_s_and_head_s_own(int keyValueHeads, int blockSize)
    {
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            foreach (int keys in (int[])[1, 7, 8, 9, 127, 150])
            {
                var generator = new ProblemGenerator(keys + keyValueHeads);
                Problem problem = HiddenScales.OfTokens(generator, generator.WithEightBits(
                    Plain(AttentionElementType.Int8, 1, keys) with { Form = blockSize > 0 ? CallForm.Paged : CallForm.Dense, BlockSize = blockSize, Heads = 2 * keyValueHeads, KeyValueHeads = keyValueHeads },
                    AttentionElementType.Int8));
                problem = problem with { Options = new AttentionOptions { Mask = AttentionMask.CausalWindow(137) }, Execution = new CpuExecution { InstructionSet = variant } };
                Caller.Run(problem).AssertClose(problem, RowByRow.Solve(problem));
            }
        }
    }

    /// <summary>A score that overflows to minus infinity would lose its weight without a trace.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(40)]
    public void Scores_that_scales_make_overflow_downwards_keep_their_weight(int queries)
    {
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            Problem problem = Plain(AttentionElementType.Int8, queries, keys: 40);
            problem = problem with
            {
                Query = [[.. problem.Query[0].Select(static x => MathF.ScaleB(Math.Abs(x), 30))]],
                Key = [[.. problem.Key[0].Select(static x => -Math.Abs(x))]],
                KeyScales = [[.. problem.KeyScales![0].Select(static x => MathF.ScaleB(x, 100))]],
                Options = new AttentionOptions { Scale = MathF.ScaleB(1, -58) },
                Execution = new CpuExecution { InstructionSet = variant },
            };
            Caller.Run(problem).AssertClose(problem, CpuLimits.Of(problem));
        }
    }

    internal static Problem Plain(AttentionElementType type, int queries, int keys)
    {
        var generator = new ProblemGenerator(queries + keys);
        Problem problem = generator.WithEightBits(new Problem
        {
            Name = "plain",
            Form = CallForm.Dense,
            QueryType = AttentionElementType.Float32,
            Heads = 4,
            KeyValueHeads = 2,
            KeyDim = 64,
            ValueDim = 32,
            QueryLengths = [queries],
            KeyLengths = [keys],
            KeyCapacity = keys,
            Query = [],
            Key = [],
            Value = [],
        }, type);
        if (type == AttentionElementType.Q8Block) return problem;
        float[] scales = [.. generator.Numbers(keys * 2, 0.2f, AttentionElementType.Float32).Select(x => (Math.Abs(x) + 0.1f) * (type == AttentionElementType.Int8 ? 0.05f : 1))];
        return problem with
        {
            KeyScalePattern = ScalePattern.PerTokenAndHead,
            ValueScalePattern = ScalePattern.PerTokenAndHead,
            KeyScales = [scales],
            ValueScales = [[.. scales.Reverse()]],
        };
    }

    private static TheoryData<AttentionElementType, CpuInstructionSet, int> Blocks(int first, int count)
    {
        var cases = new TheoryData<AttentionElementType, CpuInstructionSet, int>();
        foreach (AttentionElementType type in (AttentionElementType[])[AttentionElementType.Int8, AttentionElementType.Float8E4M3, AttentionElementType.Q8Block])
        {
            foreach (CpuInstructionSet variant in Variants.Supported)
            {
                for (int block = first; block < first + count; block++) cases.Add(type, variant, 80_000 + (block * CasesPerTest));
            }
        }

        return cases;
    }

    private static void Check(AttentionElementType type, CpuInstructionSet variant, int firstSeed)
    {
        for (int seed = firstSeed; seed < firstSeed + CasesPerTest; seed++)
        {
            var generator = new ProblemGenerator(seed);
            Problem problem = generator.NextEightBitProblem(type);
            problem = problem with { Execution = problem.Execution with { InstructionSet = variant } };
            Arrangement arrangement = generator.NextArrangement();
            Caller.Run(problem, arrangement with { WantsLogSumExp = true }).AssertClose(problem, RowByRow.Solve(problem));
            Caller.Run(problem, arrangement with { WantsLogSumExp = false }).AssertClose(problem, CpuLimits.Of(problem));
        }
    }
}
