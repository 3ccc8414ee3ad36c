using System.Runtime.CompilerServices;

namespace FusedAttention.Guides.Tests;

/// <summary>
/// Calls with score and mask functions as a user writes them: structs, a struct that is generic itself, and compositions by types and at run time. <see cref="NativeAotTests"/> compiles this file into a native program too,
/// which prints what <see cref="Run"/> gives, and so it needs the library alone.
/// </summary>
internal static class FunctionCalls
{
    public const int Heads = 2;
    public const int Dim = 16;

    public static IReadOnlyList<FunctionCall> All { get; } = [.. Make()];

    /// <summary>Numbers between -1 and 1, the same everywhere: no function of the platform's is in them.</summary>
    public static float[] Numbers(int count, int seed) => [.. Enumerable.Range(0, count).Select(i => (((i * 7919L) + (seed * 104729L)) % 2003 / 1001f) - 1)];

    /// <summary>Keys or values of a call, as its type rounds them.</summary>
    public static float[] KeyNumbers(FunctionCall call, int seed) => [.. Numbers(call.Keys * Heads * Dim, seed).Select(n => call.IsHalf ? (float)(Half)n : n)];

    /// <summary>The output of a call.</summary>
    public static float[] Run(FunctionCall call, CpuExecution? execution = null)
    {
        float[] query = Numbers(call.Queries * Heads * Dim, 1), key = KeyNumbers(call, 2), value = KeyNumbers(call, 3), output = new float[query.Length];
        if (call.IsHalf) Attention.Forward<float, Half>(query, [.. key.Select(static n => (Half)n)], [.. value.Select(static n => (Half)n)], output, ShapeOf(call), call.Options, execution: execution);
        else Attention.Forward<float, float>(query, key, value, output, ShapeOf(call), call.Options, execution: execution);
        return output;
    }

    public static AttentionExplanation Explain(FunctionCall call) => call.IsHalf ? Attention.Explain<float, Half>(ShapeOf(call), call.Options) : Attention.Explain<float, float>(ShapeOf(call), call.Options);

    private static AttentionShape ShapeOf(FunctionCall call) => new(1, call.Queries, call.Keys, Heads, Heads, Dim);

    private static IEnumerable<FunctionCall> Make()
    {
        var slopes = new ScoreTable([0.25f, 0.0625f]);
        var bias = new Slopes(slopes);
        (string Name, ScoreFunction? Score, MaskFunction? Mask)[] functions =
        [
            ("a score function", ScoreFunction.Of(bias), null),
            ("a mask function", null, MaskFunction.Of(new EveryNth(3))),
            ("by types", ScoreFunction.Of(bias.Then(new TanhCap(2)).Then(new Blended<LogNScaling>(new(8), 0.5f))), MaskFunction.Of(new EveryNth(2).And(new Unless<DilatedWindow>(new(4, 1))))),
            ("at run time", ScoreFunction.Of(bias).Then(ScoreFunction.Of(new Blended<TanhCap>(new(2), 0.25f))), MaskFunction.Of(new EveryNth(2)).And(MaskFunction.Of(new GlobalLocalMask(4, 200)))),
        ];
        foreach ((string name, ScoreFunction? score, MaskFunction? mask) in functions)
        {
            var options = new AttentionOptions { Mask = AttentionMask.Causal, ScoreFunction = score, MaskFunction = mask };
            yield return new($"{name}, prefill", options, 70, 70, false);
            yield return new($"{name}, decode", options, 1, 300, false);
            yield return new($"{name}, decode of binary16", options, 1, 300, true);

            // Beyond what 32 bits are trusted with: in double precision.
            yield return new($"{name}, wide", options with { Scale = 1e30f }, 9, 20, false);
        }
    }

    /// <summary><c>s - slope[head] |p - j|</c>.</summary>
    private readonly struct Slopes(ScoreTable slopes) : IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score - (slopes.At(at.Head) * T.Abs(at.Position - at.Key));
    }

    /// <summary>A part of another function, and the rest of the score itself.</summary>
    private readonly struct Blended<TInner>(TInner inner, ScoreParameter part) : IScoreFunction
        where TInner : struct, IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score + ((inner.Score(score, at) - score) * part);
    }

    /// <summary>Every n-th key, and the query's own.</summary>
    private readonly struct EveryNth(int step) : IMaskFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Keep<T>(in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => (at.Key % step == 0) | (at.Key == at.Position);
    }

    /// <summary>What another one hides, but for the query's own key.</summary>
    private readonly struct Unless<TInner>(TInner inner) : IMaskFunction
        where TInner : struct, IMaskFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Keep<T>(in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => !inner.Keep(at) | (at.Key == at.Position);
    }
}

/// <summary>One sequence; key and value of binary16 or as the query.</summary>
internal sealed record FunctionCall(string Name, AttentionOptions Options, int Queries, int Keys, bool IsHalf);
