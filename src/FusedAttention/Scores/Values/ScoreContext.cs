namespace FusedAttention;

/// <summary>Where a score stands in its call: what a score or mask function is told beside the score. All are whole numbers, and count from 0 within the sequence, whatever the layout.</summary>
/// <typeparam name="T">The form of numbers: see <see cref="IScoreValue{T}"/>.</typeparam>
public readonly struct ScoreContext<T>
    where T : struct, IScoreValue<T>
{
    internal ScoreContext(T batch, T head, T query, T position, T key) => (Batch, Head, Query, Position, Key) = (batch, head, query, position, key);

    /// <summary>The row of the batch, or the sequence of a packed or paged call.</summary>
    public T Batch { get; }

    /// <summary>The query head.</summary>
    public T Head { get; }

    /// <summary>The query, from the first of this call on.</summary>
    public T Query { get; }

    /// <summary>The query's position on the key axis as the call's alignment has it: under a causal mask the last key that it sees. Negative where a sequence has more queries than keys.</summary>
    public T Position { get; }

    /// <summary>The key, counted along the sequence also where it lies in blocks of a cache.</summary>
    public T Key { get; }
}
