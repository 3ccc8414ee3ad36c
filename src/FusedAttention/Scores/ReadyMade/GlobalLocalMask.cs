using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>Global and local attention (Beltagy et al. 2020, arXiv:2004.05150): a query sees the first keys of its sequence, and those near its own position on both sides.</summary>
/// <param name="globalKeys">Keys at the beginning that every query sees.</param>
/// <param name="localReach">How far from its position a query sees, in keys.</param>
public readonly struct GlobalLocalMask(int globalKeys, int localReach) : IMaskFunction
{
    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => (at.Key < globalKeys) | (T.Abs(at.Position - at.Key) <= localReach);
}
