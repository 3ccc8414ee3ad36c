using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>Biases with a shape: shared by queries, by heads, by both and by none, of every element type, in rows that begin at multiples of a vector and in such that do not, with whole rows and tiles that they hide.</summary>
public abstract class BiasTests
{
    private const int Queries = 130;

    private protected BiasTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    private static readonly (int KeyDim, int ValueDim)[] Dims = [(64, 64), (128, 128), (256, 256), (192, 128), (16, 16), (80, 80), (192, 192)];

    private static readonly AttentionElementType[] Types = [AttentionElementType.Float16, AttentionElementType.Float32, AttentionElementType.BFloat16];

    private static readonly (string Name, Func<int, int, int, AttentionElementType, float> Of)[] Patterns =
    [
        ("numbers", static (head, q, k, _) => (((head * 7919) + (q * 104729) + (k * 1299709)) % 1009 / 250f) - 2),
        ("infinities here and there", static (head, q, k, _) => ((head * 31) + (q * 7) + (k * 13)) % 11 < 3 ? float.NegativeInfinity : k % 5),
        ("nothing for some rows", static (_, q, k, _) => q % 3 == 0 || k / 64 % 2 == 0 ? float.NegativeInfinity : q % 7),
        ("growing towards the first key", static (_, q, k, _) => (400 - k) * (1 + (q % 4))),
        ("the lowest number", static (_, _, _, type) => Elements.FiniteMinimum(type)),
        ("the lowest number beside others", static (_, q, k, type) => (q + k) % 3 == 0 ? Elements.FiniteMinimum(type) : 1),
        ("one key", static (head, _, k, _) => k == 70 + head ? -3 : float.NegativeInfinity),
    ];

    /// <summary>By one number, so that any share of them is a mixture.</summary>
    [Fact]
    public void Every_pattern_is_right() => Problems.ForEach(Enumerable.Range(0, 126), (number, stream) =>
    {
        Problem problem = ProblemOf(number, Patterns[number / 3 % Patterns.Length].Of);
        using GpuCaller prefill = new(stream.Device, AttentionKernel.Prefill, stream), chosen = new(stream.Device, null, stream);
        Solution solution = RowByRow.Solve(problem);
        foreach (GpuCaller caller in (GpuCaller[])[prefill, chosen])
            if (GpuProblems.TryRun(problem, null, caller) is { } result) GpuProblems.AssertClose(result, problem, solution, caller.Forced);
    });

    /// <summary>Which way a tile goes is a matter of all rows of a block, and does not show in the bits of one.</summary>
    [Fact]
    public void Biases_of_other_rows_do_not_change_a_bit() => Problems.ForEach(Enumerable.Range(0, 63), (number, stream) =>
    {
        using var caller = new GpuCaller(stream.Device, AttentionKernel.Prefill, stream);
        Func<int, int, int, AttentionElementType, float> own = Patterns[number / 2 % Patterns.Length].Of;
        int full = number * 4;
        Problem problem = ProblemOf(full, own);
        CallResult expected = GpuProblems.Run(problem, null, caller);
        foreach ((_, Func<int, int, int, AttentionElementType, float> other) in Patterns)
        {
            CallResult actual = GpuProblems.Run(ProblemOf(full, (head, q, k, type) => (q % 5 == 2 ? own : other)(head, q, k, type)), null, caller);
            AssertSameRows(expected, actual, problem, Enumerable.Range(0, Queries).Where(static q => q % 5 == 2));
        }
    });

    /// <summary>A bias that queries or heads share has the bits of the same numbers written out, and a query alone those that it has among others.</summary>
    [Fact]
    public void Sharing_does_not_change_a_bit() => Problems.ForEach(Enumerable.Range(0, 63), (number, stream) =>
    {
        using var caller = new GpuCaller(stream.Device, AttentionKernel.Prefill, stream);
        (string name, Func<int, int, int, AttentionElementType, float> of) = Patterns[number / 2 % Patterns.Length];
        Problem shared = ProblemOf((number * 4) + 1 + (number % 3), of);
        Broadcast<float> bias = shared.Bias!;
        CallResult expected = GpuProblems.Run(WrittenOut(shared), null, caller);
        GpuProblems.Run(shared, null, caller).AssertSameBits(expected, $"{name}: {bias} against all of it, {shared}");
        int row = shared.Heads * shared.ValueDim, query = number * 2;
        if (shared.Options.Mask.IsCausal || shared.Mask is not null || !shared.Options.AlibiSlopes.IsDefaultOrEmpty) return;
        float[] own = [.. Enumerable.Range(0, shared.Heads * bias.Keys).Select(i => bias.At(0, i / bias.Keys, query, i % bias.Keys))];
        Problem alone = shared with
        {
            QueryLengths = [1],
            Query = [shared.Query[0][(query * shared.Heads * shared.KeyDim)..((query + 1) * shared.Heads * shared.KeyDim)]],
            Bias = new(own, 1, shared.Heads, 1, bias.Keys),
        };
        CallResult.AssertSameBits(expected.Output[0].AsSpan(query * row, row), GpuProblems.Run(alone, null, caller).Output[0], $"{name}: query {query} alone, {shared}");
    });

    /// <summary>A bias that all rows of a block share is kept otherwise, and is another kernel: right, and with the bits of the same numbers written out.</summary>
    /// <param name="number">Of a problem: a head's own at 256 dimensions, beside a mask at 192 and 128, causal at 128, causal at 64.</param>
    [Theory]
    [InlineData(9)]
    [InlineData(10)]
    [InlineData(22)]
    [InlineData(42)]
    public void One_row_for_all(int number)
    {
        using CudaStream stream = Problems.Open().CreateStream();
        using var caller = new GpuCaller(stream.Device, AttentionKernel.Prefill, stream);
        Problem shared = ProblemOf(number, Patterns[0].Of);
        Assert.True(shared.Bias is { Queries: 1 } bias && (bias.Heads == 1 || shared.Heads == shared.KeyValueHeads));
        CallResult result = GpuProblems.Run(shared, null, caller);
        GpuProblems.AssertClose(result, shared, RowByRow.Solve(shared), caller.Forced);
        GpuProblems.Run(WrittenOut(shared), null, caller).AssertSameBits(result, $"all of it against {shared.Bias}, {shared}");
    }

    /// <summary>Outputs and log-sum-exps, whose bits show what outputs round away.</summary>
    internal static void AssertSameRows(CallResult expected, CallResult actual, Problem problem, IEnumerable<int> queries)
    {
        int row = problem.Heads * problem.ValueDim;
        foreach (int q in queries)
        {
            CallResult.AssertSameBits(expected.Output[0].AsSpan(q * row, row), actual.Output[0].AsSpan(q * row, row), $"query {q} of {problem}");
            for (int h = 0; h < problem.Heads; h++)
            {
                int at = (h * problem.QueryLengths[0]) + q;
                CallResult.AssertSameBits(expected.LogSumExp![0].AsSpan(at, 1), actual.LogSumExp![0].AsSpan(at, 1), $"log-sum-exp of query {q}, head {h} of {problem}");
            }
        }
    }

    /// <summary>With the bias of every head and query.</summary>
    private static Problem WrittenOut(Problem problem)
    {
        Broadcast<float> bias = problem.Bias!;
        float[] all = [.. Enumerable.Range(0, problem.Heads * Queries * bias.Keys).Select(i => bias.At(0, i / (Queries * bias.Keys), i / bias.Keys % Queries, i % bias.Keys))];
        return problem with { Bias = new(all, 1, problem.Heads, Queries, bias.Keys) };
    }

    private static Problem ProblemOf(int number, Func<int, int, int, AttentionElementType, float> of)
    {
        (int keyDim, int valueDim) = Dims[number % Dims.Length];
        AttentionElementType elements = number % 2 == 0 ? AttentionElementType.Float16 : AttentionElementType.BFloat16, type = Types[number / 2 % Types.Length];
        (int heads, int keyValueHeads) = (number % 3) switch { 0 => (2, 2), 1 => (6, 2), _ => (2, 1) };
        int keys = number % 5 < 2 ? 333 : 384, biasHeads = number % 4 < 2 ? heads : 1, biasQueries = number % 4 is 0 or 3 ? Queries : 1;
        float[] bias = [.. Enumerable.Range(0, biasHeads * biasQueries * keys).Select(i => Elements.Round(type, of(i / (biasQueries * keys), i / keys % biasQueries, i % keys, type)))];
        return new ProblemGenerator(number).Fill(new Problem
        {
            Name = "bias",
            Form = CallForm.Dense,
            QueryType = elements,
            KeyValueType = elements,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            KeyDim = keyDim,
            ValueDim = valueDim,
            QueryLengths = [Queries],
            KeyLengths = [keys],
            KeyCapacity = keys,
            Query = [],
            Key = [],
            Value = [],
            BiasType = type,
            Bias = new(bias, 1, biasHeads, biasQueries, keys),
            Mask = number % 7 == 3 ? new([.. Enumerable.Range(0, Queries * keys).Select(i => (i % keys / 128) != 1 && i % 7 != 3)], 1, 1, Queries, keys) : null,
            Options = new AttentionOptions
            {
                Mask = number % 7 < 2 ? AttentionMask.Causal : number % 7 == 5 ? AttentionMask.CausalWindow(70) : AttentionMask.Full,
                AlibiSlopes = number % 9 == 4 ? AlibiSlopes.ForHeads(heads) : default,
                SoftCap = number % 11 == 3 ? 20 : 0,
            },
        });
    }
}
