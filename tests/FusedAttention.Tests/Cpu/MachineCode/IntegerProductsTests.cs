using System.Runtime.InteropServices;
using FusedAttention.Cpu.MachineCode;
using FusedAttention.Cpu.MachineCode.Kernels;
using Xunit;

namespace FusedAttention.Tests.Cpu.MachineCode;

/// <summary>8-bit keys and values by products of 16-bit integers: within what rounding queries and weights costs, for any number of keys and dimension, with nothing of hidden places and neighbours in a row's bits.</summary>
public abstract class IntegerProductsTests
{
    private readonly CpuInstructionSet _set;
    private readonly CpuExecution _required;

    protected IntegerProductsTests(CpuInstructionSet set)
    {
        Assert.SkipUnless(Variants.IsSupported(set) && CodeHost.Current is { IsAvailable: true, Features.HasF16C: true }, $"No machine code for {set} here: {CodeHost.Current.State}; the processor has {CodeHost.Current.Features}.");
        _set = set;
        _required = new() { InstructionSet = set, MachineCode = CpuMachineCode.Required };
    }

    private static readonly Arrangement[] Arrangements = [.. Enum.GetValues<TensorOrder>().Select(static order => Arrangement.Plain with { Key = order, Value = order, WantsLogSumExp = false })];

    /// <summary>Every remainder of a pair, a step and a tile, one tile and several chunks, one block of four rows and more, heads apart and together.</summary>
    [Theory]
    [InlineData(4, 1, 32, 64, AttentionElementType.Float16)]
    [InlineData(16, 2, 128, 128, AttentionElementType.BFloat16)]
    [InlineData(12, 4, 96, 192, AttentionElementType.Float16)]
    [InlineData(6, 2, 576, 256, AttentionElementType.BFloat16)]
    [InlineData(3, 1, 1024, 64, AttentionElementType.Float16)]
    public void Every_number_of_keys_is_within_the_limit(int heads, int keyValueHeads, int keyDim, int valueDim, AttentionElementType type)
    {
        foreach (int keys in (int[])[.. Enumerable.Range(1, 19), .. Enumerable.Range(126, 5), 250, 515, 1100])
            AssertRight(Of(keys, heads, keyValueHeads, keyDim, valueDim, type));
    }

    /// <summary>A window begins in the middle of a pair; what it leaves out may be anything.</summary>
    [Fact]
    public void Windows_begin_anywhere_and_see_nothing_before()
    {
        for (int left = 0; left < 40; left++)
        {
            Problem problem = Of(keys: 170, heads: 8, keyValueHeads: 2, keyDim: 64, valueDim: 64, AttentionElementType.Float16) with { Options = new AttentionOptions { Mask = AttentionMask.CausalWindow(left) } };
            CallResult result = Caller.Run(problem, Arrangements[0]);
            result.AssertClose(problem, CpuLimits.Of(problem));
            var generator = new ProblemGenerator(left);
            problem = HiddenScales.OfTokens(generator, problem);
            CallResult zeros = Caller.Run(Hide(0, 1), Arrangements[0]);
            Caller.Run(Hide(-128, float.NaN), Arrangements[0]).AssertSameBits(zeros, problem.ToString());
            Caller.Run(Hide(127, 1e30f), Arrangements[0]).AssertSameBits(zeros, problem.ToString());

            Problem Hide(float code, float scale)
            {
                int hidden = 170 - 1 - left;
                return problem with
                {
                    Key = [[.. problem.Key[0].Select((x, n) => n / (2 * 64) < hidden ? code : x)]],
                    Value = [[.. problem.Value[0].Select((x, n) => n / (2 * 64) < hidden ? code : x)]],
                    KeyScales = [[.. problem.KeyScales![0].Select((x, n) => n / 2 < hidden ? scale : x)]],
                    ValueScales = [[.. problem.ValueScales![0].Select((x, n) => n / 2 < hidden ? scale : x)]],
                };
            }
        }
    }

    /// <summary>Scales that are infinite, NaN, negative or far beyond those around them, where rows see them: their rows show it, and others keep their bits.</summary>
    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(1e-38f)]
    [InlineData(-0.5f)]
    [InlineData(1e25f)]
    public void Values_with_any_scale_are_right_and_stay_in_their_rows(float scale)
    {
        Problem problem = HiddenScales.OfTokens(new ProblemGenerator(7), Of(keys: 200, heads: 8, keyValueHeads: 2, keyDim: 64, valueDim: 64, AttentionElementType.BFloat16));
        CallResult before = Caller.Run(problem, Arrangements[0]);

        // Head 0 of keys and values, so query heads 0 to 3.
        Problem changed = problem with { ValueScales = [[.. problem.ValueScales![0].Select((x, n) => n == 2 * 150 ? scale : x)]] };
        CallResult after = Caller.Run(changed, Arrangements[0]);
        CallResult.AssertSameBits(before.Output[0].AsSpan(4 * 64), after.Output[0].AsSpan(4 * 64), problem.ToString());
        if (float.IsFinite(scale)) after.AssertClose(changed, CpuLimits.Of(changed));
        else Assert.All(after.Output[0][..(4 * 64)].Where((_, n) => problem.Value[0][(150 * 2 * 64) + (n % 64)] != 0), static x => Assert.False(float.IsFinite(x)));
    }

    [Fact]
    public void Queries_of_zero_tiny_and_infinite_are_right()
    {
        Problem problem = Of(keys: 140, heads: 8, keyValueHeads: 2, keyDim: 64, valueDim: 64, AttentionElementType.BFloat16);
        float[] factors = [0, 1e-38f, 1e-20f, 1, 1e10f, 1e30f, 1, 1];
        problem = problem with { Query = [[.. problem.Query[0].Select((x, n) => Elements.Round(AttentionElementType.BFloat16, x * factors[n / 64]))]] };
        Caller.Run(problem, Arrangements[0]).AssertClose(problem, CpuLimits.Of(problem));
        problem.Query[0][5 * 64] = float.PositiveInfinity;
        float[] result = Caller.Run(problem, Arrangements[0]).Output[0];
        Assert.All(result[(5 * 64)..(6 * 64)], static x => Assert.True(float.IsNaN(x)));
        Assert.All(result[(6 * 64)..], static x => Assert.True(float.IsFinite(x)));
    }

    /// <summary>The log-sum-exp comes from exact products.</summary>
    [Fact]
    public void A_log_sum_exp_is_exact()
    {
        Problem problem = Of(keys: 300, heads: 8, keyValueHeads: 2, keyDim: 128, valueDim: 128, AttentionElementType.Float16);
        Caller.Run(problem, Arrangements[0] with { WantsLogSumExp = true }).AssertClose(problem, RowByRow.Solve(problem));
    }

    /// <summary>That a call goes by integers, and is right wherever its tensors lie.</summary>
    private protected void AssertRight(Problem problem)
    {
        bool hasVnni = _set == CpuInstructionSet.Avx512 ? CodeHost.Current.Features.HasAvx512Vnni : CodeHost.Current.Features.HasAvxVnni;
        Assert.StartsWith($"8-bit integers by {(hasVnni ? "vpdpwssd" : "vpmaddwd")}", Explain(problem).MachineCode, StringComparison.Ordinal);
        Solution solution = CpuLimits.Of(problem);
        foreach (Arrangement arrangement in Arrangements) Caller.Run(problem, arrangement).AssertClose(problem, solution);
    }

    private AttentionExplanation Explain(Problem problem)
    {
        var shape = new AttentionShape(1, 1, problem.KeyLengths[0], problem.Heads, problem.KeyValueHeads, problem.KeyDim, problem.ValueDim);
        return problem.QueryType == AttentionElementType.Float16 ? Attention.Explain<Half, sbyte>(shape, execution: _required) : Attention.Explain<BFloat16, sbyte>(shape, execution: _required);
    }

    private protected Problem Of(int keys, int heads, int keyValueHeads, int keyDim, int valueDim, AttentionElementType type) => new ProblemGenerator(keys + heads).WithEightBits(
        new Problem
        {
            Name = "integers", Form = CallForm.Dense, QueryType = type, KeyValueType = AttentionElementType.Int8, Heads = heads, KeyValueHeads = keyValueHeads, KeyDim = keyDim, ValueDim = valueDim,
            QueryLengths = [1], KeyLengths = [keys], KeyCapacity = keys, Query = [], Key = [], Value = [], Execution = _required,
        },
        AttentionElementType.Int8);
}

/// <inheritdoc />
public sealed class Avx512IntegerProductsTests() : IntegerProductsTests(CpuInstructionSet.Avx512)
{
    [Fact]
    public void Latent_rows_are_decoded() => AssertRight(Of(keys: 300, heads: 16, keyValueHeads: 1, keyDim: 576, valueDim: 512, AttentionElementType.BFloat16));

    /// <summary>Processors without VNNI have the same integers in two steps.</summary>
    [Theory]
    [InlineData(32)]
    [InlineData(96)]
    [InlineData(576)]
    public unsafe void Scores_without_dot_products_have_the_same_bits(int dim)
    {
        Assert.SkipUnless(CodeHost.Current.Features.HasAvx512Vnni, $"This processor has no dot products to compare with: {CodeHost.Current.Features}.");
        const int Keys = 12, Rows = 4, Stride = 16;
        var random = new Random(dim);
        sbyte* keys = (sbyte*)NativeMemory.AlignedAlloc((nuint)(Keys * dim), 64);
        short* queries = (short*)NativeMemory.AlignedAlloc((nuint)(Rows * dim * sizeof(short)), 64);
        for (int i = 0; i < Keys * dim; i++) keys[i] = (sbyte)random.Next(-128, 128);
        for (int i = 0; i < Rows * dim; i++) queries[i] = (short)random.Next(-32767, 32768);
        nint* tokens = stackalloc nint[Keys];
        for (int i = 0; i < Keys; i++) tokens[i] = (nint)(keys + (i * dim));
        float[] byDotProducts = Run(DecodeElement.Int8), byTwoSteps = Run(DecodeElement.Int8WithoutVnni);
        Assert.Equal(byDotProducts, byTwoSteps);
        int sum = 0;
        for (int d = 0; d < dim; d++) sum += queries[(3 * dim) + d] * keys[(11 * dim) + d];
        Assert.Equal(dim <= 512 ? sum * 0.5f : sum * 0.5, byTwoSteps[(3 * Stride) + 11], Math.Abs(sum) * 1e-6);
        NativeMemory.AlignedFree(keys);
        NativeMemory.AlignedFree(queries);

        float[] Run(DecodeElement element)
        {
            CompiledKernel kernel = CodeHost.Current.Compile(DecodeScores.Emit(element, 512, dim, 1, Stride, FusedAttention.Cpu.MachineCode.CallingConvention.Current))!;
            float[] scores = new float[Rows * Stride], factors = [.. Enumerable.Repeat(0.5f, 16)];
            fixed (float* s = scores, f = factors)
            {
                var block = new DecodeScoresBlock
                {
                    Walk = new() { Tokens = tokens, TokensEnd = tokens + Keys, Ahead = tokens, Numbers = s, Heads = 1, RowBlocks = 1, StepBytes = Keys * sizeof(nint), StepNumberBytes = Keys * sizeof(float) },
                    Query = queries, Factors = f,
                };
                ((delegate* unmanaged<DecodeScoresBlock*, void>)kernel.Entry)(&block);
            }

            return scores;
        }
    }
}

/// <inheritdoc />
public sealed class Avx2IntegerProductsTests() : IntegerProductsTests(CpuInstructionSet.Avx2)
{
    [Theory]
    [InlineData(16, 16)]
    [InlineData(48, 80)]
    [InlineData(80, 112)]
    public void Dimensions_are_pairs_of_vectors(int keyDim, int valueDim)
    {
        foreach (int keys in (int[])[1, 2, 15, 16, 17, 129, 300]) AssertRight(Of(keys, heads: 8, keyValueHeads: 2, keyDim, valueDim, AttentionElementType.Float16));
    }
}
