using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>
/// Random problems over all features and memory layouts against the oracle, every element within its own error limit, with NaN wherever a kernel has no
/// right to read and sentinels wherever it has none to write.
/// </summary>
public sealed class MetalSweepTests
{
    private const int FirstCases = 40;
    private const int Cases = 120;

    public static TheoryData<int> FirstSeeds => [.. Enumerable.Range(1, FirstCases)];

    public static TheoryData<int> OtherSeeds => [.. Enumerable.Range(FirstCases + 1, Cases - FirstCases)];

    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, Cases)];

    [Theory]
    [MemberData(nameof(FirstSeeds))]
    public void Result_is_within_the_error_limit_of_the_oracle(int seed) => Check(seed);

    [Slow]
    [Theory]
    [MemberData(nameof(OtherSeeds))]
    public void Result_of_more_problems_is_within_the_error_limit_of_the_oracle(int seed) => Check(seed);

    /// <summary>A third of the cases, one of the decode's own shapes among them, in all three orders of lanes and threadgroups: their bits must agree.</summary>
    private static void Check(int seed)
    {
        ProblemGenerator generator = MetalProblems.Generator(200_000 + seed);
        Problem problem = generator.NextProblem();
        using EmulatedRuntime runtime = MetalProblems.Start(EmulatorFlavour.Plain, seed % 3 == 0 ? MetalProblems.AllOrders : ["random"]);
        Caller.Run(problem, generator.NextArrangement(), new MetalCaller(runtime)).AssertClose(problem, RowByRow.Solve(problem));
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Every_kernel_that_takes_a_problem_solves_it(int seed)
    {
        if (seed > Cases / 2) return;
        ProblemGenerator generator = MetalProblems.Generator(201_000 + seed);
        Problem problem = generator.NextProblem();
        Solution solution = RowByRow.Solve(problem);
        foreach (AttentionKernel family in (AttentionKernel[])[AttentionKernel.Plain, AttentionKernel.Prefill, AttentionKernel.Decode])
        {
            if (!MetalReferenceTests.Takes(family, problem.KeyDim, problem.ValueDim, problem.KeyValueType)) continue;
            MetalProblems.Run(problem, generator.NextArrangement(), family).AssertClose(problem, solution);
        }
    }

    /// <summary>NaN and +inf in a bias come out as IEEE arithmetic has it, in the rows that have them and in no other.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 40)]
    [InlineData(nameof(AttentionKernel.Decode), 5)]
    public void Not_a_number_in_a_bias_stays_in_its_row(string kernel, int queries)
    {
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Problem problem = new ProblemGenerator(3).Fill(new Problem
        {
            Name = "bias with NaN",
            Form = CallForm.Dense,
            Heads = 1,
            KeyValueHeads = 1,
            KeyDim = 64,
            ValueDim = 64,
            QueryLengths = [queries],
            KeyLengths = [40],
            KeyCapacity = 40,
            Query = [],
            Key = [],
            Value = [],
        });
        CallResult plain = MetalProblems.Run(problem with { Bias = new Broadcast<float>(new float[queries * 40], 1, 1, queries, 40) }, null, family);
        float[] bias = new float[queries * 40];
        bias[(1 * 40) + 7] = float.NaN;
        bias[(2 * 40) + 39] = float.PositiveInfinity;
        Array.Fill(bias, float.NaN, 3 * 40, 40);
        CallResult result = MetalProblems.Run(problem with { Bias = new Broadcast<float>(bias, 1, 1, queries, 40) }, null, family);
        for (int i = 0; i < queries; i++)
        {
            ReadOnlySpan<float> row = result.Output[0].AsSpan(i * 64, 64);
            if (i is 1 or 2 or 3) Assert.All(row.ToArray(), x => Assert.True(float.IsNaN(x), $"query {i}: {x}"));
            else CallResult.AssertSameBits(plain.Output[0].AsSpan(i * 64, 64), row, $"query {i}");
        }
    }
}
