using System.Runtime.CompilerServices;
using Xunit;

namespace FusedAttention.Tests.Scores;

/// <summary>Tables live as long as a call needs them, whatever the garbage collector does meanwhile, and a call with functions allocates nothing.</summary>
[Collection(AloneDefinition.Name)]
public sealed class FunctionLifetimeTests
{
    private const int Heads = 4;
    private const int Dim = 32;
    private const int Tokens = 320;

    private static readonly AttentionShape Shape = new(1, Tokens, Tokens, Heads, 2, Dim);

    private readonly float[] _query = Numbers(Tokens * Heads * Dim);
    private readonly float[] _key = Numbers(Tokens * 2 * Dim);
    private readonly float[] _output = new float[Tokens * Heads * Dim];

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Tables_survive_collections_in_the_middle_of_a_call(int threads)
    {
        var execution = new CpuExecution { MaxDegreeOfParallelism = threads };
        Run(execution, 0);
        float[] expected = [.. _output];
        List<float[]> garbage = [];
        using var collections = Meanwhile.Repeat(() =>
        {
            // What was moved or freed too early is written over: memory of the kind that tables have, and of the other one.
            GC.Collect(2, GCCollectionMode.Forced, blocking: true, compacting: true);
            for (int i = 0; i < 400; i++) garbage.Add(GC.AllocateArray<float>(Tokens, pinned: i % 8 == 0));
            foreach (float[] array in garbage) array.AsSpan().Fill(float.NaN);
            garbage.Clear();
        });
        for (int call = 0; call < 150; call++)
        {
            _output.AsSpan().Clear();
            Run(execution, call % 2 * Heads);
            if (call % 2 == 0) Assert.Equal(expected, _output);
        }
    }

    [Theory]
    [InlineData(1, Tokens)]
    [InlineData(1, 1)]
    [InlineData(3, Tokens)]
    [InlineData(3, 1)]
    public void Calls_with_functions_allocate_nothing(int threads, int queries)
    {
        var execution = new CpuExecution { MaxDegreeOfParallelism = threads };
        AttentionOptions options = Options(0);
        Allocations.AssertNone(() => Attention.Forward<float, float>(_query.AsSpan(0, queries * Heads * Dim), _key, _key, _output.AsSpan(0, queries * Heads * Dim), Shape with { QueryLength = queries }, options, default, execution), 20);
    }

    // The options, and with them the tables, are nobody's but the call's.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Run(CpuExecution execution, int seed) => Attention.Forward<float, float>(_query, _key, _key, _output, Shape, Options(seed), default, execution);

    private static AttentionOptions Options(int seed) => new()
    {
        ScoreFunction = ScoreFunction.Of(new TokenProduct(new ScoreTable(Numbers(Tokens)), new ScoreTable(Numbers(Tokens)))).Then(ScoreFunction.Of(new LinearBias(new ScoreTable(Numbers(Heads + seed))))),
        MaskFunction = MaskFunction.Of(new DocumentMask([.. Enumerable.Range(0, Tokens).Select(static i => i / 50)])).And(MaskFunction.Of(new GlobalLocalMask(10, 120))),
    };

    private static float[] Numbers(int count)
    {
        var random = new Random(count);
        return [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() - 0.5f)];
    }
}
