using System.Runtime.CompilerServices;

namespace FusedAttention.Testing;

/// <summary>Score and mask functions that tests write, and random choices of them and of the library's own.</summary>
internal static class TestFunctions
{
    /// <summary>The problem with a score function, a mask function or both.</summary>
    public static Problem Add(ProblemGenerator generator, Problem problem)
    {
        int which = generator.Next(0, 3);
        return problem with
        {
            Options = problem.Options with
            {
                ScoreFunction = which == 0 ? null : NextScore(generator, problem),
                MaskFunction = which == 1 ? null : NextMask(generator, problem),
            },
        };
    }

    /// <summary>The problem with functions of which nothing depends on the batch: a score function, a mask function or, where <paramref name="which"/> is a multiple of 3, both; and no tensor beside them.</summary>
    public static Problem AddSame(Problem problem, int which)
    {
        float[] slopes = [.. Enumerable.Range(1, problem.Heads).Select(static h => 0.3f / h)];
        return problem with
        {
            Mask = null,
            Bias = null,
            Options = problem.Options with
            {
                ScoreFunction = which % 3 == 2 ? null : ScoreFunction.Of(new LinearBias(new ScoreTable(slopes)).Then(new TanhCap(20))),
                MaskFunction = which % 3 == 1 ? null : MaskFunction.Of(new DilatedWindow(40, 3, isTwoSided: true).And(new HeadRemainder(2))),
            },
        };
    }

    private static ScoreFunction NextScore(ProblemGenerator generator, Problem problem)
    {
        float[] perHead = generator.Numbers(problem.Heads, 0.5f, AttentionElementType.Float32);
        (int queries, int keys, int sequences) = (Math.Max(1, problem.QueryLengths.Max()), Math.Max(1, problem.KeyLengths.Max()), problem.Sequences);
        ScoreTable byQuery = new(generator.Numbers(sequences * queries, 1, AttentionElementType.Float32), sequences, queries);
        ScoreTable byKey = new(generator.Numbers(sequences * keys, 1, AttentionElementType.Float32), sequences, keys);
        var linear = new LinearBias(new ScoreTable(perHead));
        var cap = new TanhCap(generator.Pick([2f, 20f]));
        var tokens = new TokenProduct(byQuery, byKey);
        var relative = new T5RelativeBias(generator.Numbers(16 * problem.Heads, 1, AttentionElementType.Float32), problem.Heads, generator.Chance(2), 40);
        return generator.Next(0, 8) switch
        {
            0 => ScoreFunction.Of(linear),
            1 => ScoreFunction.Of(cap),
            2 => ScoreFunction.Of(tokens),
            3 => ScoreFunction.Of(relative),
            4 => ScoreFunction.Of(relative.Then(cap).Then(linear)),
            5 => ScoreFunction.Of(tokens).Then(ScoreFunction.Of(cap)),
            6 => ScoreFunction.Of(new EveryOther(generator.Pick([2, 3]))),
            _ => ScoreFunction.Of(new EveryOther(3)).Then(ScoreFunction.Of(linear)),
        };
    }

    private static MaskFunction NextMask(ProblemGenerator generator, Problem problem)
    {
        int[] Documents(int[] lengths)
        {
            int longest = Math.Max(1, lengths.Max());
            return [.. Enumerable.Range(0, lengths.Length * longest).Select(n => n % longest / 37)];
        }

        (int queries, int keys, int sequences) = (Math.Max(1, problem.QueryLengths.Max()), Math.Max(1, problem.KeyLengths.Max()), problem.Sequences);
        var document = new DocumentMask(new ScoreTable(Documents(problem.QueryLengths), sequences, queries), new ScoreTable(Documents(problem.KeyLengths), sequences, keys));
        var prefix = new PrefixMask(new ScoreTable([.. Enumerable.Range(0, sequences).Select(s => (7 * s) + 3)]));
        var dilated = new DilatedWindow(generator.Pick([1, 3, 20]), generator.Pick([1, 2, 5]), generator.Chance(2));
        var local = new GlobalLocalMask(generator.Pick([0, 4]), generator.Pick([1, 30]));
        return generator.Next(0, 6) switch
        {
            0 => MaskFunction.Of(document),
            1 => MaskFunction.Of(prefix),
            2 => MaskFunction.Of(dilated),
            3 => MaskFunction.Of(local),
            4 => MaskFunction.Of(prefix.And(new HeadRemainder(3))),
            _ => MaskFunction.Of(local).And(MaskFunction.Of(new HeadRemainder(2))),
        };
    }
}

/// <summary><c>s - slope[head] |p - j|</c>: what ALiBi is.</summary>
internal readonly struct LinearBias(ScoreTable slopes) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score - (slopes.At(at.Head) * T.Abs(at.Position - at.Key));
}

/// <summary>A product of a number of the query and one of the key.</summary>
internal readonly struct TokenProduct(ScoreTable queries, ScoreTable keys) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score + (queries.At(at.Batch, at.Query) * keys.At(at.Batch, at.Key));
}

/// <summary>Excludes keys by negative infinity, whatever their score is.</summary>
internal readonly struct EveryOther(int stride) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => T.Select(T.Abs(at.Position - at.Key) % stride == 1, float.NegativeInfinity, score);
}

/// <summary>Heads see keys of their own remainder.</summary>
internal readonly struct HeadRemainder(int stride) : IMaskFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => at.Key % stride == at.Head % stride;
}

/// <summary>Excludes keys by their scores.</summary>
internal readonly struct OnlyAbove(float least) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => T.Select(score < least, float.NegativeInfinity, score);
}

/// <summary>Keeps the first keys alone.</summary>
internal readonly struct FirstKeys(int last) : IMaskFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => at.Key <= last;
}
