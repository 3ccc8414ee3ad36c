using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>bfloat16 by tile products: the law within what rounding weights to bfloat16 allows, the same bits whatever lies at hidden places, for any threads and layout. Runs in an emulator, and on tiles where there are any.</summary>
public sealed class TilePrefillTests
{
    private const int CasesPerTest = 20;

    public static TheoryData<bool, int> Cases()
    {
        var cases = new TheoryData<bool, int>();
        foreach (bool emulates in (bool[])[true, false])
        {
            for (int block = 0; block < 3; block++) cases.Add(emulates, 130_000 + (block * CasesPerTest));
        }

        return cases;
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Random_problems_are_right(bool emulates, int firstSeed)
    {
        Skip(emulates);
        for (int seed = firstSeed; seed < firstSeed + CasesPerTest; seed++)
        {
            var generator = Generator(seed);
            Problem problem = generator.NextProblem();
            CallResult actual = Caller.Run(problem, generator.NextArrangement(), new TileCaller(problem.Execution, emulates));
            actual.AssertClose(problem, RowByRow.Solve(problem).WithRoundedWeights(AttentionElementType.BFloat16, AttentionElementType.BFloat16));
        }
    }

    /// <summary>The bits that zeros at hidden keys give, whatever lies there; what a row sees shows.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Hidden_places_do_not_show(bool emulates, int firstSeed)
    {
        Skip(emulates);
        int hidden = 0;
        for (int seed = firstSeed; seed < firstSeed + CasesPerTest; seed++)
        {
            var generator = Generator(seed);
            Problem problem = generator.NextProblem();
            if (!HiddenKeys.MayHide(problem)) continue;
            Arrangement arrangement = generator.NextArrangement();
            var caller = new TileCaller(problem.Execution, emulates);
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            CallResult expected = Caller.Run(HiddenKeys.With(problem, victims, _ => 0, _ => 0), arrangement, caller);
            float[] specials = [float.NaN, float.PositiveInfinity, float.NegativeInfinity, 3e38f];
            Problem poisoned = HiddenKeys.With(problem, victims, n => specials[n % 4], n => specials[(n / 4) % 4]);
            hidden += HiddenKeys.AssertHiddenBits(expected, Caller.Run(poisoned, arrangement, caller), poisoned, victims);
            Problem infinite = HiddenKeys.With(problem, victims, _ => 0, _ => float.PositiveInfinity);
            CallResult actual = Caller.Run(infinite, arrangement, caller);
            HiddenKeys.AssertHiddenBits(expected, actual, infinite, victims);
            HiddenKeys.AssertSeenInfinities(actual, infinite, victims);
        }

        Assert.True(hidden > 100, $"Only {hidden} rows had something hidden from them.");
    }

    /// <summary>Bits follow from the row alone: not from threads, layout in memory or block size, and not from what else is in the call.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Threads_and_layouts_do_not_change_a_bit(bool emulates)
    {
        Skip(emulates);
        for (int seed = 131_000; seed < 131_020; seed++)
        {
            var generator = Generator(seed);
            Problem problem = generator.NextProblem();
            CallResult expected = Caller.Run(problem, Arrangement.Plain, new TileCaller(new() { MaxDegreeOfParallelism = 1 }, emulates));
            foreach (int threads in (int[])[2, 8, 16, -1])
            {
                Caller.Run(problem, generator.NextArrangement(), new TileCaller(new() { MaxDegreeOfParallelism = threads }, emulates)).AssertSameBits(expected, $"{problem} with {threads} threads");
            }
        }
    }

    /// <summary>Several tiles and strips, rows whose maximum grows late, and more keys than one long block has.</summary>
    [Theory]
    [InlineData(true, 70, 900, 64)]
    [InlineData(true, 300, 300, 128)]
    [InlineData(true, 20, 33_000, 16)]
    [InlineData(false, 70, 900, 64)]
    [InlineData(false, 300, 300, 128)]
    [InlineData(false, 1000, 1000, 128)]
    [InlineData(false, 20, 70_000, 64)]
    public void Larger_problems_are_right(bool emulates, int queries, int keys, int dim)
    {
        Skip(emulates);
        Problem problem = new ProblemGenerator(queries + keys).Fill(new Problem
        {
            Name = "larger", Form = CallForm.Dense, QueryType = AttentionElementType.BFloat16, KeyValueType = AttentionElementType.BFloat16, Heads = 2, KeyValueHeads = 1,
            KeyDim = dim, ValueDim = dim, QueryLengths = [queries], KeyLengths = [keys], KeyCapacity = keys, Query = [], Key = [], Value = [], Options = new() { Mask = AttentionMask.Causal },
        });
        CallResult actual = Caller.Run(problem, Arrangement.Plain with { WantsLogSumExp = true }, new TileCaller(problem.Execution, emulates));
        actual.AssertClose(problem, RowByRow.Solve(problem).WithRoundedWeights(AttentionElementType.BFloat16, AttentionElementType.BFloat16));
    }

    /// <summary>Stages in machine code have the bits of those in lanes, which calls that ask for log-sum-exps go through; also where maxima move within a call of many stages, with missing rows and part of a tile.</summary>
    [Theory]
    [InlineData(true, 70, 900, 64, false)]
    [InlineData(true, 300, 300, 128, true)]
    [InlineData(true, 40, 1500, 40, false)]
    [InlineData(true, 520, 520, 16, true)]
    [InlineData(false, 300, 1500, 128, false)]
    [InlineData(false, 1000, 1000, 64, true)]
    [InlineData(false, 600, 3000, 96, true)]
    public void Whole_stages_have_the_bits_of_others(bool emulates, int queries, int keys, int dim, bool causal)
    {
        Skip(emulates);
        Problem problem = new ProblemGenerator(queries + keys).Fill(new Problem
        {
            Name = "stages", Form = CallForm.Dense, QueryType = AttentionElementType.BFloat16, KeyValueType = AttentionElementType.BFloat16, Heads = 2, KeyValueHeads = 1,
            KeyDim = dim, ValueDim = dim, QueryLengths = [queries], KeyLengths = [keys], KeyCapacity = keys, Query = [], Key = [], Value = [],
            Options = new() { Mask = causal ? AttentionMask.Causal : AttentionMask.Full },
        });
        foreach (float factor in (float[])[1, 30])
        {
            // Now and then a key that outweighs all before it.
            float[] key = [.. problem.Key[0]];
            for (int j = 150; j < keys; j += 211)
            {
                for (int d = 0; d < dim; d++) key[(j * dim) + d] = (float)(BFloat16)(key[(j * dim) + d] * factor);
            }

            Problem moved = problem with { Key = [key] };
            CallResult expected = Caller.Run(moved, Arrangement.Plain, new TileCaller(problem.Execution, emulates));
            CallResult actual = Caller.Run(moved, Arrangement.Plain with { WantsLogSumExp = false }, new TileCaller(problem.Execution, emulates));
            Assert.Equal(expected.Output[0], actual.Output[0]);
            actual.AssertClose(moved, RowByRow.Solve(moved).WithRoundedWeights(AttentionElementType.BFloat16, AttentionElementType.BFloat16));
        }
    }

    /// <summary>Outputs are averages by rounded weights: divided by their sum, and not by that of the exact ones, which would make as many outputs wrong by a unit in the last place as it does here.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Rounded_weights_are_divided_by_their_own_sum(bool emulates)
    {
        Skip(emulates);
        const int Queries = 200, Keys = 5, Dim = 32;
        Problem problem = new ProblemGenerator(9).Fill(new Problem
        {
            Name = "averages", Form = CallForm.Dense, QueryType = AttentionElementType.BFloat16, KeyValueType = AttentionElementType.BFloat16, Heads = 1, KeyValueHeads = 1,
            KeyDim = Dim, ValueDim = Dim, QueryLengths = [Queries], KeyLengths = [Keys], KeyCapacity = Keys, Query = [], Key = [], Value = [],
        });

        // Of one sign, so that what all weights are off by shows.
        problem = problem with { Value = [[.. problem.Value[0].Select(static v => (float)(BFloat16)(1 + (Math.Abs(v) % 1)))]] };
        float[] actual = Caller.Run(problem, Arrangement.Plain with { WantsLogSumExp = false }, new TileCaller(problem.Execution, emulates)).Output[0];
        int wrong = 0, wrongByExactSum = 0;
        for (int i = 0; i < Queries; i++)
        {
            double[] scores = [.. Enumerable.Range(0, Keys).Select(j => problem.Scale * Enumerable.Range(0, Dim).Sum(d => (double)problem.Query[0][(i * Dim) + d] * problem.Key[0][(j * Dim) + d]))];
            double[] weights = [.. scores.Select(score => Math.Exp(score - scores.Max()))];
            double[] rounded = [.. weights.Select(static w => (double)BitConverter.Int32BitsToSingle((BitConverter.SingleToInt32Bits((float)w) + 0x8000) & ~0xFFFF))];
            for (int d = 0; d < Dim; d++)
            {
                double sum = Enumerable.Range(0, Keys).Sum(j => rounded[j] * problem.Value[0][(j * Dim) + d]);
                if ((float)(BFloat16)(float)(sum / rounded.Sum()) != actual[(i * Dim) + d]) wrong++;
                if ((float)(BFloat16)(float)(sum / weights.Sum()) != actual[(i * Dim) + d]) wrongByExactSum++;
            }
        }

        Assert.True(wrong * 100 < Queries * Dim, $"{wrong} of {Queries * Dim} outputs are not the averages.");
        Assert.True(wrongByExactSum > 5 * wrong && wrongByExactSum > 100, $"The other sum would give {wrongByExactSum} others: this proves nothing.");
    }

    /// <summary>255 equal weights, all rounded in one direction, and then a key that outweighs them.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_new_maximum_rescales_what_rounding_has_added(bool emulates)
    {
        Skip(emulates);
        const int Queries = 40, Keys = 257, Dim = 16;
        Problem problem = new ProblemGenerator(3).Fill(new Problem
        {
            Name = "late maximum", Form = CallForm.Dense, QueryType = AttentionElementType.BFloat16, KeyValueType = AttentionElementType.BFloat16, Heads = 1, KeyValueHeads = 1,
            KeyDim = Dim, ValueDim = Dim, QueryLengths = [Queries], KeyLengths = [Keys], KeyCapacity = Keys, Query = [], Key = [], Value = [], Options = new() { Scale = 1 },
        });
        float[] query = new float[Queries * Dim], key = new float[Keys * Dim];
        for (int i = 0; i < Queries; i++) query[i * Dim] = (float)(BFloat16)(1 + (i / 64f));
        for (int j = 0; j < Keys; j++) key[j * Dim] = j == 0 ? 1 : j < 256 ? 0.5f : 12;
        problem = problem with { Query = [query], Key = [key] };
        CallResult actual = Caller.Run(problem, Arrangement.Plain with { WantsLogSumExp = true }, new TileCaller(problem.Execution, emulates));
        actual.AssertClose(problem, RowByRow.Solve(problem).WithRoundedWeights(AttentionElementType.BFloat16, AttentionElementType.BFloat16));
    }

    /// <summary>The collector does not wait for machine code: arrays of a call stay where they are, whatever it moves meanwhile, and callers beside each other do not meet.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_collector_may_run_meanwhile(bool emulates)
    {
        Skip(emulates);
        Problem problem = Generator(132_000).NextProblem() with { Execution = new() };
        CallResult expected = Caller.Run(problem, Arrangement.Plain with { WantsLogSumExp = false }, new TileCaller(problem.Execution, emulates));
        using var collections = Meanwhile.Repeat(static () =>
        {
            _ = new byte[5000];
            GC.Collect(1, GCCollectionMode.Forced, blocking: true, compacting: true);
        });
        BackgroundThread[] callers = [.. Enumerable.Range(0, 3).Select(_ => BackgroundThread.Start(() =>
        {
            for (int i = 0; i < 30; i++) Caller.Run(problem, Arrangement.Plain with { WantsLogSumExp = false }, new TileCaller(problem.Execution, emulates)).AssertSameBits(expected, "while the collector runs");
        }))];
        foreach (BackgroundThread caller in callers) caller.Join();
    }

    private static ProblemGenerator Generator(int seed) => new(seed)
    {
        Specialisations = [.. new[] { (16, 16), (24, 40), (32, 32), (33, 65), (64, 64), (80, 48), (128, 128), (128, 64), (256, 256) }
            .Select(static dims => (AttentionElementType.BFloat16, AttentionElementType.BFloat16, dims.Item1, dims.Item2))],
        MostWork = 2_000_000,
    };

    private static void Skip(bool emulates)
    {
        Assert.SkipUnless(Variants.IsSupported(CpuInstructionSet.Avx512), "Tiles come with AVX-512, which packs for them.");
        Assert.SkipUnless(emulates || TileCaller.HasTiles, "This processor has no tiles, or this process may not use them.");
    }
}
