using System.Runtime.CompilerServices;

namespace FusedAttention.Checking.Conformance;

/// <summary><c>s + q[b, i] k[b, j]</c>: two tables by token.</summary>
internal readonly struct TokenBias(ScoreTable queries, ScoreTable keys) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score + (queries.At(at.Batch, at.Query) * keys.At(at.Batch, at.Key));
}

/// <summary><c>s + sqrt(p - j) / 2 - ln(p - j + 1)</c>: NaN for keys after the query, which a causal mask must hide.</summary>
internal readonly struct PastBias : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        T past = at.Position - at.Key;
        return score + (0.5f * T.Sqrt(past)) - T.Log(past + 1);
    }
}

/// <summary>Excludes keys by negative infinity unless their distance leaves 1 when divided.</summary>
internal readonly struct StrideByInfinity(int stride) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => T.Select(T.Abs(at.Position - at.Key) % stride == 1, score, float.NegativeInfinity);
}

/// <summary>Nearly every operation at once, with a choice between two long branches.</summary>
internal readonly struct MixedBias(ScoreTable tau, ScoreParameter clip) : IScoreFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        T limit = clip;
        T distance = T.Abs(at.Position - at.Key);
        T decay = T.Exp(-distance / tau.At(at.Head));
        T clipped = T.Min(T.Max(score, -limit), limit);
        T near = clipped + decay - (0.25f * T.Sqrt(distance));
        T leaky = T.Select(score > 0, score, 0.25f * score);
        T far = (leaky / (1 + (0.125f * T.Log(1 + distance)))) - (decay * T.Sqrt(T.Abs(score) + 1));
        return T.Select(at.Key % 3 == at.Head % 3, near, far);
    }
}

/// <summary>Heads see keys of their own remainder.</summary>
internal readonly struct HeadStride(int stride) : IMaskFunction
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => at.Key % stride == at.Head % stride;
}
