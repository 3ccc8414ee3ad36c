using FusedAttention.Problems;

namespace FusedAttention.Planning;

/// <summary>
/// How the keys of a sequence with few rows are split into pieces that are worked on side by side and merged in their order. Every backend splits by this rule, each with numbers of its own.
/// </summary>
/// <remarks>
/// A split's size is a function of how many keys the sequence's queries may see, and of nothing else: not of the batch, the machine or the number of threads, and not of what lies hidden behind the visible
/// keys, so the capacity of a cache cannot show in the bits. Splits begin at absolute multiples of the size, wherever the visible keys begin.
/// </remarks>
internal readonly struct KeySplits
{
    private readonly KeyRange _visible;
    private readonly int _first;

    /// <param name="visible">The keys that any query of the sequence may see.</param>
    /// <param name="minKeys">The least size of a split, a power of two.</param>
    /// <param name="mostSplits">How many splits the sizes keep it to: one more where the visible keys begin inside a split.</param>
    public KeySplits(KeyRange visible, int minKeys, int mostSplits)
    {
        _visible = visible;
        Keys = SizeOf(visible.Length, minKeys, mostSplits);
        _first = visible.Start / Keys;
        Count = visible.IsEmpty ? 1 : ((visible.End - 1) / Keys) - _first + 1;
    }

    /// <summary>Keys of a split, a power of two.</summary>
    public int Keys { get; }

    /// <summary>How many splits hold a visible key. One at least: a sequence that sees nothing has outputs too.</summary>
    public int Count { get; }

    /// <summary>The visible keys of split <paramref name="split"/>, from 0 to <see cref="Count"/> - 1; [0, 0) where nothing is visible.</summary>
    public KeyRange this[int split]
    {
        get
        {
            if (_visible.IsEmpty) return default;
            long start = (long)(_first + split) * Keys;
            return new((int)Math.Max(_visible.Start, start), (int)Math.Min(_visible.End, start + Keys));
        }
    }

    /// <summary>The least size that keeps <paramref name="visibleKeys"/> keys to <paramref name="mostSplits"/> splits, doubling from <paramref name="minKeys"/>.</summary>
    private static int SizeOf(int visibleKeys, int minKeys, int mostSplits)
    {
        int keys = minKeys;
        while ((visibleKeys + (long)keys - 1) / keys > mostSplits) keys *= 2;
        return keys;
    }
}
