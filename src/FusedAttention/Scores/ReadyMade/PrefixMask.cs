using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>A prefix language model: every query sees the whole prefix, and beyond it the keys up to its own position. The call's own mask stays <see cref="AttentionMask.Full"/>.</summary>
/// <param name="lengths">The prefix of each sequence, in keys.</param>
public readonly struct PrefixMask(ScoreTable lengths) : IMaskFunction
{
    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => (at.Key < lengths.At(at.Batch)) | (at.Key <= at.Position);
}
