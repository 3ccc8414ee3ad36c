using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Keys and values of 8 bits with their scales: against the oracle, and what rows may not see against zeros in its place.</summary>
public sealed class MetalEightBitTests
{
    private const int InEveryRun = 2;

    private static readonly int[] BlockSizes = [16, 1, 32, 3];

    /// <summary>
    /// Both codes, under each type of query; with two blocks of rows a simdgroup, with two simdgroups for the dimensions, with lanes that have nothing in the last turn, and what only the plain kernel takes.
    /// </summary>
    private static readonly (AttentionElementType Query, AttentionElementType KeyValue, int KeyDim, int ValueDim)[] AllSpecialisations =
    [
        (AttentionElementType.Float16, AttentionElementType.Int8, 64, 64),
        (AttentionElementType.BFloat16, AttentionElementType.Float8E4M3, 64, 64),
        (AttentionElementType.Float16, AttentionElementType.Float8E4M3, 80, 40),
        (AttentionElementType.Float32, AttentionElementType.Int8, 128, 128),
        (AttentionElementType.Float32, AttentionElementType.Float8E4M3, 168, 152),
        (AttentionElementType.BFloat16, AttentionElementType.Float8E4M3, 88, 72),
        (AttentionElementType.Float16, AttentionElementType.Int8, 192, 128),
        (AttentionElementType.Float16, AttentionElementType.Int8, 33, 65),
        (AttentionElementType.Float32, AttentionElementType.Float8E4M3, 256, 256),
    ];

    /// <summary>Each is a library a kernel to compile, so a run in CI takes the first ones.</summary>
    public static (AttentionElementType Query, AttentionElementType KeyValue, int KeyDim, int ValueDim)[] Specialisations => MetalProblems.IsWhole ? AllSpecialisations : AllSpecialisations[..InEveryRun];

    public static TheoryData<int, string> Problems
    {
        get
        {
            var problems = new TheoryData<int, string>();
            for (int n = 0; n < Specialisations.Length; n++)
                foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>()) problems.Add(n, kernel.ToString());
            return problems;
        }
    }

    /// <summary>All forms, masks, biases and patterns of scales, in all orders of threads once.</summary>
    [Theory]
    [MemberData(nameof(Problems))]
    public void Results_are_within_the_error_limit_of_the_oracle(int specialisation, string kernel)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        (AttentionElementType query, AttentionElementType codes, int keyDim, int valueDim) = Specialisations[specialisation];
        if (!MetalReferenceTests.Takes(family, keyDim, valueDim, codes)) return;
        for (int n = 0; n < (MetalProblems.IsWhole ? 30 : 6); n++)
        {
            Problem problem = Next(specialisation, n, out ProblemGenerator generator);
            using EmulatedRuntime runtime = MetalProblems.Start(EmulatorFlavour.Plain, n == 0 ? MetalProblems.AllOrders : ["random"]);
            Caller.Run(problem, generator.NextArrangement(), new MetalCaller(runtime, family)).AssertClose(problem, RowByRow.Solve(problem));
        }
    }

    /// <summary>Codes and scales of hidden places may be anything: NaN, infinite, 1e30.</summary>
    [Theory]
    [MemberData(nameof(Problems))]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give(int specialisation, string kernel)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        (AttentionElementType query, AttentionElementType codes, int keyDim, int valueDim) = Specialisations[specialisation];
        if (!MetalReferenceTests.Takes(family, keyDim, valueDim, codes)) return;
        int hidden = 0;
        for (int n = 0; n < 60 && hidden < (MetalProblems.IsWhole ? 400 : 20); n++)
        {
            Problem problem = Next(specialisation, 100 + n, out ProblemGenerator generator);
            if (!HiddenKeys.MayHide(problem)) continue;
            problem = HiddenScales.OfTokens(generator, problem);
            Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
            Problem zeros = HiddenScales.Zeros(problem, victims);
            Problem poisoned = HiddenScales.Poisoned(problem, victims, float.NaN, float.PositiveInfinity, 1e30f, float.NegativeInfinity);
            Arrangement arrangement = generator.NextArrangement();
            hidden += HiddenKeys.AssertHiddenBits(MetalProblems.Run(zeros, arrangement, family), MetalProblems.Run(poisoned, arrangement, family), poisoned, victims);
        }

        Assert.True(hidden >= 20, $"Only {hidden} rows had something hidden from them.");
    }

    /// <summary>Several splits of a sequence, in each form of a call.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Decode), CallForm.Packed)]
    [InlineData(nameof(AttentionKernel.Decode), CallForm.Paged)]
    [InlineData(nameof(AttentionKernel.Plain), CallForm.Dense)]
    public void Long_sequences_are_split(string kernel, CallForm form)
    {
        var family = Enum.Parse<AttentionKernel>(kernel);
        (AttentionElementType query, AttentionElementType codes, int keyDim, int valueDim) = Specialisations[0];
        var generator = new ProblemGenerator(12);
        Problem problem = generator.WithEightBits(HiddenKeyProblems.Of(queries: 2, keys: 777, query, "causal") with { Form = form, BlockSize = 16, KeyDim = keyDim, ValueDim = valueDim }, codes);
        problem = HiddenScales.OfTokens(generator, problem);
        MetalProblems.Run(problem, null, family).AssertClose(problem, RowByRow.Solve(problem));
    }

    /// <summary>A row that sees one key has its value, whatever code that is; and its log-sum-exp is the score.</summary>
    [Theory]
    [InlineData(AttentionElementType.Int8)]
    [InlineData(AttentionElementType.Float8E4M3)]
    public void Every_code_is_what_it_is(AttentionElementType codes)
    {
        const int Dim = 64;
        float[] all = [.. Enumerable.Range(0, 256).Select(n => codes == AttentionElementType.Int8 ? (sbyte)n : (float)Float8E4M3.FromBits((byte)n))];
        AttentionElementType query = Specialisations.First(one => one.KeyValue == codes).Query;
        Problem problem = new ProblemGenerator(1).WithEightBits(
            HiddenKeyProblems.Of(queries: 1, keys: 1, query, "nothing") with { KeyDim = Dim, ValueDim = Dim, QueryLengths = Repeated(1), KeyLengths = Repeated(1), Form = CallForm.Packed }, codes) with
        {
            KeyScalePattern = ScalePattern.None,
            ValueScalePattern = ScalePattern.None,
            KeyScales = null,
            ValueScales = null,
            Query = [.. all.Select(_ => Enumerable.Repeat(1f, 3 * Dim).ToArray())],
            Key = [.. all.Select((code, n) => Enumerable.Range(0, Dim).Select(d => d == n % Dim ? code : 0).ToArray())],
            Value = [.. all.Select((_, n) => Enumerable.Range(0, Dim).Select(d => all[(n + (d * 4)) % 256]).ToArray())],
            Options = new AttentionOptions { Scale = 1 },
        };
        foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>())
        {
            CallResult result = MetalProblems.Run(problem, null, kernel);
            for (int n = 0; n < 256; n++)
            {
                for (int h = 0; h < 3; h++)
                {
                    float lse = result.LogSumExp![n][h];
                    Assert.True(float.IsNaN(all[n]) ? float.IsNaN(lse) : Math.Abs(lse - all[n]) <= 2e-7f * Math.Abs(all[n]), $"{kernel}: the score of code {n}, {all[n]}, is {lse}.");
                    for (int d = 0; d < Dim; d++) Assert.Equal(float.IsNaN(all[n]) ? float.NaN : all[(n + (d * 4)) % 256], result.Output[n][(h * Dim) + d]);
                }
            }
        }

        static int[] Repeated(int length) => [.. Enumerable.Repeat(length, 256)];
    }

    /// <summary>A few keys out of those of a mask function, which asks before it is known what a tile's scales are.</summary>
    [Fact]
    public void Mask_functions_go_with_codes()
    {
        foreach (AttentionKernel kernel in Enum.GetValues<AttentionKernel>())
        {
            Problem problem = Next(0, 7, out _) with { Name = "mask function" };
            problem = problem with { Options = problem.Options with { MaskFunction = MaskFunction.Of(new EveryNth(16, 3)) } };
            MetalProblems.Run(problem, null, kernel).AssertClose(problem, RowByRow.Solve(problem));
            if (!MetalProblems.IsWhole) break;
        }
    }

    /// <summary>The reference set with keys and values of 8 bits within its limits: the whole set where it lies beside the repository, else the committed part; a run in CI takes those of two libraries.</summary>
    [Fact]
    public void Reference_cases_pass()
    {
        string folder = ReferenceData.Beside("reference-kv8") ?? Path.Combine(ReferenceData.Root, "tests", "data", "reference-kv8");
        var failures = new List<string>();
        int passed = 0;
        foreach (string file in ReferenceFolder.Files(folder))
        {
            if (QuantizeCase.TryLoad(file) is not null || (!MetalProblems.IsWhole && !InCi(Path.GetFileName(file)))) continue;
            using EmulatedRuntime runtime = MetalProblems.Start();
            foreach (AttentionKernel? forced in (AttentionKernel?[])[null, AttentionKernel.Plain, AttentionKernel.Prefill, AttentionKernel.Decode])
            {
                if (!MetalProblems.IsWhole && forced is not null) continue;
                CaseOutcome outcome = ReferenceCall.Run(ReferenceCase.Load(file), new RunOptions { RowInvariant = forced == AttentionKernel.Prefill }, new MetalCaller(runtime, forced));
                if (outcome.Passed) passed++;
                else if (forced is null || !outcome.Failure!.Contains("does not take", StringComparison.Ordinal)) failures.Add($"{outcome.Case}, {forced?.ToString() ?? "chosen"}: {outcome.Failure}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.True(passed >= (MetalProblems.IsWhole ? 100 : 3), $"Only {passed} cases ran.");

        // In the libraries of the problems above.
        static bool InCi(string name) => (name.Contains("int8-fp16", StringComparison.Ordinal) || name.Contains("e4m3-bf16", StringComparison.Ordinal)) && name.Contains("-d64-", StringComparison.Ordinal);
    }

    /// <summary>A problem of few keys: what tiles and splits there are, other tests of the same kernels have.</summary>
    private static Problem Next(int specialisation, int n, out ProblemGenerator generator)
    {
        (AttentionElementType query, AttentionElementType codes, int keyDim, int valueDim) = Specialisations[specialisation];
        int seed = 890_000 + (specialisation * 1000) + n;
        generator = new ProblemGenerator(seed) { Specialisations = [(query, query, keyDim, valueDim)], Form = (CallForm)(n % 3), MostWork = 300_000 };
        Problem problem = generator.WithOptions(generator.NextSizes()) with { Name = $"seed {seed}", BlockSize = BlockSizes[n % BlockSizes.Length] };
        if (n % 5 == 1) problem = generator.WithMask(problem);
        if (n % 5 == 3) problem = generator.WithBias(problem, AttentionElementType.Float32);
        return generator.WithEightBits(problem, codes);
    }
}
