namespace FusedAttention;

/// <summary>
/// A number that a score or mask function captures and that may differ from call to call: a kernel of a GPU receives it as an argument, where a constant would be part of its text and mean another kernel.
/// </summary>
public readonly struct ScoreParameter
{
    private static long _count;

    /// <summary>A parameter with a value.</summary>
    /// <param name="value">The number.</param>
    public ScoreParameter(float value) => (Value, Id) = (value, Interlocked.Increment(ref _count));

    /// <summary>The number.</summary>
    public float Value { get; }

    /// <summary>Tells parameters of the same value apart; copies are the same one.</summary>
    internal long Id { get; }

    /// <summary>A parameter with a value.</summary>
    /// <param name="value">The number.</param>
    public static implicit operator ScoreParameter(float value) => new(value);
}
