using Xunit;

namespace FusedAttention.Tests;

/// <summary>Which variant runs: the best that the machine has, the one that the caller names, or an exception; never another.</summary>
public sealed class InstructionSetTests(ITestOutputHelper output)
{
    private static readonly AttentionShape Shape = new(1, 64, 64, 2, 1, 32);

    public static TheoryData<CpuInstructionSet> All => [.. Variants.All];

    [Fact]
    public void The_variant_that_runs_is_the_expected_one()
    {
        CpuInstructionSet actual = Attention.Explain<float, float>(Shape).InstructionSet!.Value;
        output.WriteLine($"variant that ran: {actual}");
        Assert.Equal(Variants.Expected, actual.ToString());

        // What Auto explains is also what it runs: the same bits as the variant named outright.
        Problem problem = new ProblemGenerator(90_000).NextProblem();
        CallResult named2 = Caller.Run(problem with { Execution = problem.Execution with { InstructionSet = actual } });
        Caller.Run(problem).AssertSameBits(named2, $"Auto against {actual}");
    }

    [Theory]
    [MemberData(nameof(All))]
    public void A_named_variant_runs_or_is_refused(CpuInstructionSet variant)
    {
        var execution = new CpuExecution { InstructionSet = variant };
        float[] numbers = new float[64 * 2 * 32];
        float[] result = new float[numbers.Length];
        Array.Fill(result, 7);
        if (Variants.IsSupported(variant))
        {
            Assert.Equal(variant, Attention.Explain<float, float>(Shape, execution: execution).InstructionSet);
            Attention.Forward<float, float>(numbers, numbers, numbers, result, Shape, execution: execution);
            Assert.Equal(0, result[0]);
            return;
        }

        var error = Assert.Throws<PlatformNotSupportedException>(() => Attention.Forward<float, float>(numbers, numbers, numbers, result, Shape, execution: execution));
        Assert.Contains(variant.ToString(), error.Message, StringComparison.Ordinal);
        Assert.All(result, x => Assert.Equal(7, x));
    }

    [Slow]
    [Fact]
    public void Variants_differ_from_each_other_only_by_rounding()
    {
        for (int seed = 90_001; seed <= 90_040; seed++)
        {
            Problem problem = new ProblemGenerator(seed).NextProblem();
            Solution exact = RowByRow.Solve(problem);
            foreach (CpuInstructionSet variant in Variants.Supported)
            {
                Problem forced = problem with { Execution = problem.Execution with { InstructionSet = variant } };
                Caller.Run(forced).AssertClose(forced, exact);
            }
        }
    }

    [Fact]
    public void An_explanation_says_what_runs_and_why()
    {
        AttentionExplanation prefill = Attention.Explain<float, Half>(new AttentionShape(2, 512, 1024, 8, 2, 64), new AttentionOptions { Mask = AttentionMask.Causal });
        Assert.Equal("cpu", prefill.Backend);
        Assert.Equal("prefill", prefill.Kernel);
        Assert.InRange(prefill.Threads, 1, Environment.ProcessorCount);
        Assert.True(prefill.WorkItems >= prefill.Threads);
        Assert.NotEmpty(prefill.Details);
        Assert.Contains($"instruction set  {prefill.InstructionSet}\nthreads ", prefill.ToString(), StringComparison.Ordinal);

        // Causal, bottom-right: query i of 512 sees 513 + i of 1024 keys; 4 operations a key and dimension.
        double pairs = Enumerable.Range(0, 512).Sum(i => 513.0 + i) * 2 * 8;
        Assert.Equal(pairs * 4 * 64, prefill.FloatingPointOperations, 0.5);
        Assert.Equal(2L * 1024 * 2 * (64 + 64) * 2, prefill.KeyValueBytes);

        Assert.Equal("decode", Attention.Explain<float, float>(new AttentionShape(1, 1, 1024, 8, 2, 64)).Kernel);
        Assert.Equal("none", Attention.Explain<float, float>(new AttentionShape(0, 1, 1024, 8, 2, 64)).Kernel);
        Assert.Equal("prefill + decode", Attention.Explain<float, float>(new AttentionShape(1, 1, 1, 8, 2, 64), [1, 300], [900, 300], blockSize: 16).Kernel);
        Assert.Equal(1, Attention.Explain<float, float>(Shape, execution: new() { MaxDegreeOfParallelism = 1 }).Threads);
    }
}
