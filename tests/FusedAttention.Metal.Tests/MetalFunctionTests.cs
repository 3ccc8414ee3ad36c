using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Score and mask functions in every kernel: the reference set, random problems beside all other features, bits, and what functions hide.</summary>
public sealed class MetalFunctionTests
{
    private const int FirstCases = 8;
    private static readonly int Cases = MetalProblems.IsWhole ? 60 : 26;

    public static TheoryData<string> Reference => [.. ReferenceData.Names(ReferenceData.Functions)];

    /// <summary>Every sixth.</summary>
    public static TheoryData<string> SomeReference => [.. ReferenceData.Names(ReferenceData.FunctionSubset).Where(static (_, n) => n % 6 == 0)];

    public static TheoryData<int> FirstSeeds => [.. Enumerable.Range(1, FirstCases)];

    public static TheoryData<int> OtherSeeds => [.. Enumerable.Range(FirstCases + 1, Cases - FirstCases)];

    public static TheoryData<int> NeighbourSeeds => [.. Enumerable.Range(1, 12)];

    public static TheoryData<int> HiddenSeeds => [.. Enumerable.Range(1, MetalProblems.IsWhole ? 40 : 12)];

    /// <summary>With the kernel that a call gets.</summary>
    [Theory]
    [MemberData(nameof(SomeReference))]
    public void Reference_case_passes(string name) => AssertPasses(Path.Combine(ReferenceData.FunctionSubset, name + ".safetensors"), forced: null);

    /// <summary>
    /// In all orders of threads, and with each kernel that takes the case if everything is asked for; else with one of them, which is another one from case to case. Cases of a kind stand together, so that each kind comes to each kernel.
    /// </summary>
    [Slow]
    [Theory]
    [MemberData(nameof(Reference))]
    public void Reference_case_passes_in_every_kernel_that_takes_it(string name)
    {
        string path = Path.Combine(ReferenceData.Functions, name + ".safetensors");
        if (MetalProblems.IsWhole) AssertPasses(path, forced: null);
        AttentionKernel[] kernels = Enum.GetValues<AttentionKernel>();
        int first = Array.IndexOf(ReferenceData.Names(ReferenceData.Functions), name);
        for (int n = 0; n < kernels.Length; n++)
        {
            if (AssertPasses(path, kernels[(first + n) % kernels.Length]) && !MetalProblems.IsWhole) return;
        }
    }

    [Theory]
    [MemberData(nameof(FirstSeeds))]
    public void Result_is_within_the_error_limit_of_the_oracle(int seed) => CheckResults(seed);

    [Slow]
    [Theory]
    [MemberData(nameof(OtherSeeds))]
    public void Result_of_more_problems_is_within_the_error_limit_of_the_oracle(int seed) => CheckResults(seed);

    [Slow]
    [Theory]
    [MemberData(nameof(HiddenSeeds))]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give(int seed)
    {
        ProblemGenerator generator = MetalProblems.Generator(870_000 + seed);
        Problem problem = TestFunctions.Add(generator, generator.NextProblem());
        Arrangement arrangement = generator.NextArrangement();
        Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
        foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>())
        {
            if (MetalReferenceTests.Takes(kernel, problem.KeyDim, problem.ValueDim, problem.KeyValueType)) HiddenKeys.AssertHidden(problem, victims, special => Run(special, arrangement, kernel));
        }
    }

    /// <summary>A key that its score excludes is not seen, whatever its value: where values are looked at one by one, the score is asked for again.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 70)]
    [InlineData(nameof(AttentionKernel.Decode), 4)]
    public void Keys_that_their_scores_exclude_may_hold_anything(string kernel, int queries)
    {
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        (Problem problem, (int, int, float)[] specials) = HiddenKeyProblems.ExcludedByScore(queries);
        CallResult expected = Run(HiddenKeyProblems.WithValues(problem, specials, isZero: true), null, family);
        Assert.All(expected.Output[0], static x => Assert.True(float.IsFinite(x)));
        Run(HiddenKeyProblems.WithValues(problem, specials, isZero: false), null, family).AssertSameBits(expected, $"{family}: {problem}");
    }

    /// <summary>A cap makes a number of the negative infinity of a bias, and the key is seen, an infinite value too.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5)]
    [InlineData(nameof(AttentionKernel.Prefill), 70)]
    [InlineData(nameof(AttentionKernel.Decode), 4)]
    public void A_function_after_a_bias_has_the_last_word(string kernel, int queries)
    {
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Problem problem = HiddenKeyProblems.CappedAfterBias(queries);
        Run(problem, null, family).AssertClose(problem, RowByRow.Solve(problem));
        CallResult infinite = Run(HiddenKeyProblems.WithValues(problem, [(20, 3, float.PositiveInfinity)], isZero: false), null, family);
        for (int i = 0; i < infinite.Output[0].Length; i++) Assert.Equal(i % problem.ValueDim == 3, float.IsPositiveInfinity(infinite.Output[0][i]));
    }

    /// <summary>Writing to what a launch only reads is an error of the emulator's, and here the text does so in every tile from the third one on that is not left out.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Plain), 5, "if (!simd_any(keeps_key(row, tile, lane, parameters))) continue;", "32")]
    [InlineData(nameof(AttentionKernel.Prefill), 70, "if (atomic_load_explicit(&notes->kept_tile, memory_order_relaxed) != tile + 1) continue;", "TILE_KEYS")]
    [InlineData(nameof(AttentionKernel.Decode), 4, "if (!simd_any(keeps_key(row, tile, lane_of_key % STEPS * SIDE_BY_SIDE + side, parameters))) continue;", "TILE_KEYS")]
    public void Tiles_that_a_mask_function_empties_are_left_out(string kernel, int queries, string skip, string keysOfTile)
    {
        Problem problem = HiddenKeyProblems.Of(queries, 200, AttentionElementType.Float16, "nothing");
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        Problem kept = problem with { Options = problem.Options with { MaskFunction = MaskFunction.Of(new FirstKeys(3)) } };
        using EmulatedRuntime runtime = new(EmulatorFlavour.Brief)
        {
            Source = function =>
            {
                string text = KernelSource.Compose(function);
                Assert.Contains(skip, text, StringComparison.Ordinal);
                return text.Replace(skip, $"{skip}\n if (tile >= 2 * {keysOfTile}) ((device uchar *)operands.mask)[0] = 255;", StringComparison.Ordinal);
            },
        };
        AttentionKernel family = Enum.Parse<AttentionKernel>(kernel);
        Caller.Run(kept, null, new MetalCaller(runtime, family)).AssertClose(kept, RowByRow.Solve(kept));
        Problem all = problem with { Options = problem.Options with { MaskFunction = MaskFunction.Of(new FirstKeys(199)) } };
        Assert.Throws<MetalEmulationException>(() => Caller.Run(all, null, new MetalCaller(runtime, family)));
    }

    [Slow]
    [Theory]
    [MemberData(nameof(NeighbourSeeds))]
    public void Neighbours_in_the_batch_do_not_change_a_bit(int seed)
    {
        ProblemGenerator generator = MetalProblems.Generator(890_000 + seed);
        Problem problem = TestFunctions.AddSame(generator.NextProblem(), seed);
        CallResult together = Run(problem);
        for (int s = 0; s < problem.Sequences; s++)
        {
            CallResult alone = Run(problem.Only(s));
            CallResult.AssertSameBits(together.Output[s], alone.Output[0], $"sequence {s} alone, {problem}");
            CallResult.AssertSameBits(together.LogSumExp![s], alone.LogSumExp![0], $"log-sum-exp of sequence {s} alone, {problem}");
        }
    }

    /// <summary>A third of the problems in all three orders of lanes and threadgroups: their bits must agree.</summary>
    private static void CheckResults(int seed)
    {
        ProblemGenerator generator = MetalProblems.Generator(880_000 + seed);
        Problem problem = TestFunctions.Add(generator, generator.NextProblem());
        Solution solution = RowByRow.Solve(problem);
        using EmulatedRuntime runtime = MetalProblems.Start(EmulatorFlavour.Brief, seed % 3 == 0 ? MetalProblems.AllOrders : ["random"]);
        AttentionKernel kernel = Enum.GetValues<AttentionKernel>()[seed % 3];
        foreach (AttentionKernel? forced in (AttentionKernel?[])[null, kernel])
        {
            if (forced is { } family && !MetalReferenceTests.Takes(family, problem.KeyDim, problem.ValueDim, problem.KeyValueType)) continue;
            Caller.Run(problem, generator.NextArrangement(), new MetalCaller(runtime, forced)).AssertClose(problem, solution);
        }
    }

    private static CallResult Run(Problem problem, Arrangement? arrangement = null, AttentionKernel? forced = null) => MetalProblems.Run(problem, arrangement, forced, EmulatorFlavour.Brief);

    /// <summary>Whether the kernel takes the case, which it then passes.</summary>
    private static bool AssertPasses(string path, AttentionKernel? forced)
    {
        ReferenceCase reference = ReferenceCase.Load(path);
        using EmulatedRuntime runtime = MetalProblems.Start(EmulatorFlavour.Brief, MetalProblems.AllOrders);
        CaseOutcome outcome = ReferenceCall.Run(reference, new RunOptions { RowInvariant = forced == AttentionKernel.Prefill }, new MetalCaller(runtime, forced));
        if (forced is not null && !outcome.Passed && outcome.Failure!.Contains("does not take dimensions", StringComparison.Ordinal)) return false;
        Assert.True(outcome.Passed, $"{path} in {forced?.ToString() ?? "the chosen kernel"}: {outcome.Failure}");
        return true;
    }
}
