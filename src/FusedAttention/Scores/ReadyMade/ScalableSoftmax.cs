using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>Scalable softmax (Nakanishi 2025, arXiv:2501.19399): <c>s * scale[head] * ln(keys[sequence])</c>.</summary>
/// <param name="scales">One a query head.</param>
/// <param name="keys">What the logarithm is taken of, one a sequence: its keys.</param>
public readonly struct ScalableSoftmax(ScoreTable scales, ScoreTable keys) : IScoreFunction
{
    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score * (scales.At(at.Head) * T.Log(keys.At(at.Batch)));
}
