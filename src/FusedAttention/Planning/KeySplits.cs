using System.Diagnostics;
using System.Numerics;
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
    private readonly int _shift;

    /// <param name="visible">The keys that any query of the sequence may see.</param>
    /// <param name="minKeys">The least size of a split, a power of two.</param>
    /// <param name="mostSplits">How many splits the sizes keep it to: one more where the visible keys begin inside a split.</param>
    public KeySplits(KeyRange visible, int minKeys, int mostSplits)
    {
        Debug.Assert(BitOperations.IsPow2(minKeys), "Sizes are powers of two.");
        _visible = visible;
        _shift = BitOperations.Log2((uint)minKeys);
        while ((visible.Length + (1L << _shift) - 1) >> _shift > mostSplits) _shift++;
        _first = visible.Start >> _shift;
        Count = visible.IsEmpty ? 1 : ((visible.End - 1) >> _shift) - _first + 1;
    }

    /// <summary>Keys of a split, a power of two: the least from the minimum on that keeps the visible keys to so many splits.</summary>
    public int Keys => 1 << _shift;

    /// <summary>The logarithm of <see cref="Keys"/>.</summary>
    public int Shift => _shift;

    /// <summary>How many splits hold a visible key. One at least: a sequence that sees nothing has outputs too.</summary>
    public int Count { get; }

    /// <summary>The visible keys of split <paramref name="split"/>, from 0 to <see cref="Count"/> - 1; [0, 0) where nothing is visible.</summary>
    public KeyRange this[int split]
    {
        get
        {
            if (_visible.IsEmpty) return default;
            long start = (long)(_first + split) << _shift;
            return new((int)Math.Max(_visible.Start, start), (int)Math.Min(_visible.End, start + Keys));
        }
    }
}
