using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>Scores that grow with the context beyond the length that a model was trained on, so that weights stay as sharp: <c>s * max(1, ln(p + 1) / ln(trainedLength))</c> for a query at position p (Qwen's form).</summary>
public readonly struct LogNScaling : IScoreFunction
{
    private readonly ScoreParameter _perLog;

    /// <summary>Scaling beyond a length.</summary>
    /// <param name="trainedLength">The context length of training, 2 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">It is below 2.</exception>
    public LogNScaling(int trainedLength)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(trainedLength, 2);
        _perLog = (float)(1 / Math.Log(trainedLength));
    }

    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score * T.Max(1, T.Log(T.Max(at.Position + 1, 1)) * _perLog);
}
