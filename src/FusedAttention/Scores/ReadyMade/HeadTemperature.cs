using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>A temperature for each head: <c>s * temperature[head]</c>.</summary>
/// <param name="temperatures">One a query head.</param>
public readonly struct HeadTemperature(ScoreTable temperatures) : IScoreFunction
{
    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score * temperatures.At(at.Head);
}
