using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>
/// A mask over the last keys of each sequence alone, where its new tokens are: a tree of drafts needs a row of as many truths as there are drafts, not of as many as there are keys in the context, which are all seen. Beside a causal
/// mask, in packed and paged calls.
/// </summary>
public readonly struct NewTokenMask : IMaskFunction
{
    private readonly ScoreTable _mask;
    private readonly ScoreTable _firstRows;
    private readonly ScoreTable _firstKeys;

    /// <summary>Takes a copy of everything. Sequences in the order of the call.</summary>
    /// <param name="mask">
    /// <c>[total queries, width]</c>, row by row: whether a query sees the last keys of its sequence, the last one last. Where a sequence has fewer keys than <paramref name="width"/>, the columns before its first key mean nothing.
    /// </param>
    /// <param name="width">How many keys of each sequence the mask is about, from its end: 1 or more. Those before them are seen.</param>
    /// <param name="cumulativeQueryLengths">Where each sequence's queries begin, and their total at the end: <c>[sequences + 1]</c>.</param>
    /// <param name="contextLengths">Keys of each sequence, the new ones among them: <c>[sequences]</c>.</param>
    /// <exception cref="ArgumentException">There is no query, the numbers of sequences differ, the lengths descend, or the mask has another length; or the table would have more than 2^24 entries.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The width is not positive.</exception>
    public NewTokenMask(ReadOnlySpan<bool> mask, int width, ReadOnlySpan<int> cumulativeQueryLengths, ReadOnlySpan<int> contextLengths)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);
        if (contextLengths.IsEmpty || cumulativeQueryLengths.Length != contextLengths.Length + 1)
            throw new ArgumentException($"There are {cumulativeQueryLengths.Length} cumulative query lengths for {contextLengths.Length} sequences; expected one more than sequences, of which there is one at least.", nameof(cumulativeQueryLengths));
        for (int s = 0; s < contextLengths.Length; s++)
        {
            if (cumulativeQueryLengths[s] < 0 || cumulativeQueryLengths[s + 1] < cumulativeQueryLengths[s])
                throw new ArgumentException($"cumulativeQueryLengths has {cumulativeQueryLengths[s]} and then {cumulativeQueryLengths[s + 1]}; expected ascending numbers from 0 on.", nameof(cumulativeQueryLengths));
        }

        int rows = cumulativeQueryLengths[^1];
        if (rows == 0 || mask.Length != (long)rows * width) throw new ArgumentException($"The mask has {mask.Length} elements, but must have {rows} rows of {width} keys, one row at least.", nameof(mask));
        int[] seen = new int[mask.Length], firstKeys = new int[contextLengths.Length];
        for (int i = 0; i < seen.Length; i++) seen[i] = mask[i] ? 1 : 0;
        for (int s = 0; s < firstKeys.Length; s++) firstKeys[s] = contextLengths[s] - width;
        (_mask, _firstRows, _firstKeys) = (new(seen, rows, width), new(cumulativeQueryLengths[..^1]), new(firstKeys));
    }

    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Keep<T>(in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        T column = at.Key - _firstKeys.At(at.Batch);
        return (column < 0) | (_mask.At(_firstRows.At(at.Batch) + at.Query, column) > 0);
    }
}
