using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>Composition of functions by their types, which leaves one body and one pass.</summary>
public static class ScoreFunctions
{
    /// <summary>A function, and then another one on its result.</summary>
    /// <param name="first">What comes first.</param>
    /// <param name="second">What comes after.</param>
    /// <typeparam name="TFirst">Its type.</typeparam>
    /// <typeparam name="TSecond">The other's type.</typeparam>
    public static ScoreSequence<TFirst, TSecond> Then<TFirst, TSecond>(this TFirst first, TSecond second)
        where TFirst : struct, IScoreFunction
        where TSecond : struct, IScoreFunction
        => new(first, second);

    /// <summary>What two mask functions both keep.</summary>
    /// <param name="first">One of them.</param>
    /// <param name="second">The other.</param>
    /// <typeparam name="TFirst">Its type.</typeparam>
    /// <typeparam name="TSecond">The other's type.</typeparam>
    public static MaskIntersection<TFirst, TSecond> And<TFirst, TSecond>(this TFirst first, TSecond second)
        where TFirst : struct, IMaskFunction
        where TSecond : struct, IMaskFunction
        => new(first, second);
}

/// <summary>A score function, and then another one on its result: <see cref="ScoreFunctions.Then"/>.</summary>
/// <param name="first">What comes first.</param>
/// <param name="second">What comes after.</param>
/// <typeparam name="TFirst">Its type.</typeparam>
/// <typeparam name="TSecond">The other's type.</typeparam>
public readonly struct ScoreSequence<TFirst, TSecond>(TFirst first, TSecond second) : IScoreFunction
    where TFirst : struct, IScoreFunction
    where TSecond : struct, IScoreFunction
{
    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => second.Score(first.Score(score, at), at);
}

/// <summary>What two mask functions both keep: <see cref="ScoreFunctions.And"/>.</summary>
/// <param name="first">One of them.</param>
/// <param name="second">The other.</param>
/// <typeparam name="TFirst">Its type.</typeparam>
/// <typeparam name="TSecond">The other's type.</typeparam>
public readonly struct MaskIntersection<TFirst, TSecond>(TFirst first, TSecond second) : IMaskFunction
    where TFirst : struct, IMaskFunction
    where TSecond : struct, IMaskFunction
{
    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => first.Keep(at) & second.Keep(at);
}
