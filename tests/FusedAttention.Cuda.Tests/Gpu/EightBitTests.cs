using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;
using FusedAttention.Devices;
using FusedAttention.Tensors;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Keys and values of 8 bits with their scales: against the oracle, and what rows may not see against zeros in its place.</summary>
public abstract class EightBitTests
{
    private const int ShareOfDims = 24;

    private static readonly AttentionElementType[] Queries = [AttentionElementType.Float16, AttentionElementType.BFloat16, AttentionElementType.Float32];

    private static readonly AttentionElementType[] Codes = [AttentionElementType.Int8, AttentionElementType.Float8E4M3];

    private static readonly (int Key, int Value)[] Dims = [(128, 128), (64, 64), (80, 48), (16, 16), (192, 128), (256, 256), (96, 112), (576, 512), (40, 24), (33, 65)];

    private static readonly int[] BlockSizes = [16, 1, 64, 3, 48];

    private protected EightBitTests(TestDevice device) => Problems = new(device);

    public static TheoryData<AttentionElementType, AttentionElementType> Types
    {
        get
        {
            var types = new TheoryData<AttentionElementType, AttentionElementType>();
            foreach (AttentionElementType query in Queries)
                foreach (AttentionElementType codes in Codes) types.Add(query, codes);
            return types;
        }
    }

    public static TheoryData<AttentionElementType, AttentionElementType, CallForm> DecodeForms
    {
        get
        {
            var forms = new TheoryData<AttentionElementType, AttentionElementType, CallForm>();
            foreach (AttentionElementType query in Queries.AsSpan(..2))
                foreach (AttentionElementType codes in Codes)
                    foreach (CallForm form in Enum.GetValues<CallForm>()) forms.Add(query, codes, form);
            return forms;
        }
    }

    private GpuProblems Problems { get; }

    /// <summary>With the kernels that calls get, and in turns with each one that takes the problem.</summary>
    [Theory]
    [MemberData(nameof(Types))]
    public void Results_are_within_the_error_limit_of_the_oracle(AttentionElementType query, AttentionElementType codes) => ForEach((number, stream) =>
    {
        using GpuCaller chosen = new(stream.Device, null, stream), prefill = new(stream.Device, AttentionKernel.Prefill, stream), decode = new(stream.Device, AttentionKernel.Decode, stream);
        using GpuCaller plain = new(stream.Device, AttentionKernel.Plain, stream);
        GpuCaller[] forced = [decode, plain, prefill];
        for (int n = 0; n < 3; n++)
        {
            (Problem problem, Arrangement arrangement, _) = Next(query, codes, number, 870_000 + (number * 10) + n);
            Solution solution = Solve(problem);

            // A prefill rounds values times their scales as well, and multiplies them by weights that lose alike.
            Solution roundedValues = Solve(problem, multipliesNumbers: true).WithRoundedWeights(query, query);
            foreach (GpuCaller caller in (GpuCaller[])[chosen, forced[n % 3]])
            {
                if (GpuProblems.TryRun(problem, arrangement, caller) is { } result)
                    GpuProblems.AssertClose(result, problem, caller.Forced is null or AttentionKernel.Prefill ? roundedValues : solution, caller.Forced, arrangement.ToString());
            }
        }
    });

    /// <summary>Several splits of a sequence, whose last step has keys of none.</summary>
    [Theory]
    [MemberData(nameof(DecodeForms))]
    public void Long_sequences_are_decoded(AttentionElementType query, AttentionElementType codes, CallForm form)
    {
        Problems.Open(AttentionKernel.Decode);
        var generator = new ProblemGenerator((int)query + (10 * (int)codes));
        Problem problem = generator.WithEightBits(
            HiddenKeyProblems.Of(queries: 2, keys: Problems.Target.Tokens(4000) + 437, query, "causal") with { Form = form, KeyDim = 128, ValueDim = 128, Heads = 8 }, codes);
        problem = HiddenScales.OfTokens(generator, problem);
        CallResult result = Problems.Run(problem, null, AttentionKernel.Decode);
        GpuProblems.AssertClose(result, problem, Solve(problem), AttentionKernel.Decode);
    }

    [Theory]
    [MemberData(nameof(Types))]
    public void Rows_have_the_bits_that_zeros_at_their_hidden_keys_give(AttentionElementType query, AttentionElementType codes)
    {
        int hidden = 0;
        ForEach((number, stream) =>
        {
            using GpuCaller chosen = new(stream.Device, null, stream), prefill = new(stream.Device, AttentionKernel.Prefill, stream), decode = new(stream.Device, AttentionKernel.Decode, stream);
            GpuCaller[] forced = [decode, prefill];
            for (int n = 0; n < 6; n++)
            {
                (Problem problem, Arrangement arrangement, ProblemGenerator generator) = Next(query, codes, number, 880_000 + (number * 10) + n);
                if (!HiddenKeys.MayHide(problem)) continue;
                problem = HiddenScales.OfTokens(generator, problem);
                Victim[] victims = [.. Enumerable.Range(0, 4).SelectMany(_ => Victim.Choose(generator, problem))];
                Problem zeros = HiddenScales.Zeros(problem, victims);
                Problem poisoned = HiddenScales.Poisoned(problem, victims, float.NaN, float.PositiveInfinity, 1e30f, float.NegativeInfinity);
                foreach (GpuCaller caller in (GpuCaller[])[chosen, forced[n % 2]])
                {
                    if (GpuProblems.TryRun(zeros, arrangement, caller) is { } expected)
                        Interlocked.Add(ref hidden, HiddenKeys.AssertHiddenBits(expected, GpuProblems.Run(poisoned, arrangement, caller), poisoned, victims));
                }
            }
        });
        Assert.True(hidden > 100, $"Only {hidden} rows had something hidden from them.");
    }

    /// <summary>A row that sees one key has its value, whatever code that is; and its log-sum-exp is the score.</summary>
    [Theory]
    [MemberData(nameof(Types))]
    public void Every_code_is_what_it_is(AttentionElementType query, AttentionElementType codes)
    {
        const int Dim = 256;
        float[] all = [.. Enumerable.Range(0, Dim).Select(n => codes == AttentionElementType.Int8 ? (sbyte)n : (float)Float8E4M3.FromBits((byte)n))];
        Problem problem = new ProblemGenerator(1).WithEightBits(HiddenKeyProblems.Of(queries: 1, keys: 1, query, "nothing") with { KeyDim = 16, ValueDim = Dim, QueryLengths = Repeated(1), KeyLengths = Repeated(1), Form = CallForm.Packed }, codes) with
        {
            KeyScalePattern = ScalePattern.None,
            ValueScalePattern = ScalePattern.None,
            KeyScales = null,
            ValueScales = null,
            Query = [.. all.Select(_ => Enumerable.Repeat(1f, 3 * 16).ToArray())],
            Key = [.. all.Select((code, n) => Enumerable.Range(0, 16).Select(d => d == n % 16 ? code : 0).ToArray())],
            Value = [.. all.Select((_, n) => all.Select((_, d) => all[(n + d) % Dim]).ToArray())],
            Options = new AttentionOptions { Scale = 1 },
        };
        foreach (AttentionKernel kernel in GpuProblems.Kernels)
        {
            if (!Problems.Takes(kernel, problem)) continue;
            CallResult result = Problems.Run(problem, null, kernel);
            for (int n = 0; n < Dim; n++)
            {
                for (int h = 0; h < 3; h++)
                {
                    float lse = result.LogSumExp![n][h];
                    Assert.True(float.IsNaN(all[n]) ? float.IsNaN(lse) : Math.Abs(lse - all[n]) <= 2e-7f * Math.Abs(all[n]), $"{kernel}: the score of code {n}, {all[n]}, is {lse}.");
                    for (int d = 0; d < Dim; d++) Assert.Equal(float.IsNaN(all[n]) ? float.NaN : all[(n + d) % Dim], result.Output[n][(h * Dim) + d]);
                }
            }
        }

        static int[] Repeated(int length) => [.. Enumerable.Repeat(length, Dim)];
    }

    /// <summary>The reference set with keys and values of 8 bits within its limits: the whole set where it lies beside the repository, else the committed part.</summary>
    [Theory]
    [InlineData(null)]
    [InlineData(nameof(AttentionKernel.Plain))]
    [InlineData(nameof(AttentionKernel.Decode))]
    [InlineData(nameof(AttentionKernel.Prefill))]
    public void Reference_cases_pass(string? kernel)
    {
        AttentionKernel? forced = kernel is null ? null : Enum.Parse<AttentionKernel>(kernel);
        if (forced is { } one) Problems.Open(one);
        using GpuCaller caller = new(Problems.Open(), forced);
        string folder = ReferenceData.Beside("reference-kv8") ?? Path.Combine(ReferenceData.Root, "tests", "data", "reference-kv8");
        var failures = new List<string>();
        int passed = 0;
        foreach (string file in ReferenceFolder.Files(folder))
        {
            if (QuantizeCase.TryLoad(file) is not null) continue;
            CaseOutcome outcome = ReferenceCall.Run(ReferenceCase.Load(file), RunOptions.Default, caller);
            if (outcome.Passed) passed++;
            else if (forced is null || !outcome.Failure!.Contains("does not take dimensions", StringComparison.Ordinal)) failures.Add($"{outcome.Case}: {outcome.Failure}");
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.True(passed >= (forced is AttentionKernel.Plain or null ? 24 : 5), $"Only {passed} cases ran.");
    }

    private void ForEach(Action<int, CudaStream> check) => Problems.ForEach(Enumerable.Range(0, Dims.Length * ShareOfDims), check);

    /// <summary>
    /// The solution, with what binary16 loses below its smallest normal number: a weight times its value's scale is off by half a subnormal step, 2^-25, and then multiplies a code. Of many, 3.5 times the root of the squares
    /// is 6 standard deviations, as of what rounding loses above. It shows where a row's one large weight is on a value of 0, which codes often are.
    /// </summary>
    /// <param name="problem">The problem.</param>
    /// <param name="multipliesNumbers">A prefill may take the call, whose weights are without scales: what they lose multiplies a code times its scale.</param>
    internal static Solution Solve(Problem problem, bool multipliesNumbers = false)
    {
        Solution solution = RowByRow.Solve(problem);
        if (problem.QueryType != AttentionElementType.Float16 || !problem.KeyValueType.TakesScales()) return solution;
        int dim = problem.ValueDim, group = problem.Heads / problem.KeyValueHeads;
        for (int s = 0; s < problem.Sequences; s++)
        {
            double[] squares = new double[problem.KeyValueHeads * dim], numbers = problem.ValueNumbers(s);
            for (int n = 0; n < numbers.Length; n++)
            {
                double most = multipliesNumbers ? Math.Max(Math.Abs(problem.Value[s][n]), Math.Abs(numbers[n])) : Math.Abs(problem.Value[s][n]);
                if (!double.IsNaN(most)) squares[n % squares.Length] += most * most;
            }

            for (int n = 0; n < solution.OutputLimit[s].Length; n++)
                solution.OutputLimit[s][n] += Math.ScaleB(3.5 * Math.Sqrt(squares[(n / dim % problem.Heads / group * dim) + (n % dim)]), -25);
        }

        return solution;
    }

    private static (Problem Problem, Arrangement Arrangement, ProblemGenerator Generator) Next(AttentionElementType query, AttentionElementType codes, int number, int seed)
    {
        (int keyDim, int valueDim) = Dims[number / ShareOfDims];
        var generator = new ProblemGenerator(seed) { Specialisations = [(query, query, keyDim, valueDim)], Form = (CallForm)(seed % 3), Heads = GpuProblems.Heads, MostWork = 4_000_000 };
        Problem problem = generator.WithOptions(generator.NextSizes()) with { Name = $"seed {seed}", BlockSize = BlockSizes[seed % BlockSizes.Length] };
        if (seed % 5 == 1) problem = generator.WithMask(problem);
        if (seed % 5 == 3) problem = generator.WithBias(problem, AttentionElementType.Float32);
        problem = generator.WithEightBits(problem, codes);

        // As vectors need it, mostly: gaps of rows are any number of elements.
        Arrangement arrangement = generator.NextArrangement();
        if (seed % 4 > 0) arrangement = arrangement with { RowGap = 0, Query = TensorOrder.Contiguous, Key = TensorOrder.Contiguous, Value = TensorOrder.Contiguous, Output = TensorOrder.Contiguous };
        return (problem, arrangement, generator);
    }
}
