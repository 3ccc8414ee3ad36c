using System.Runtime.CompilerServices;

namespace FusedAttention.Devices;

/// <summary>The work items of one kernel, in the order in which they run: long ones first, so that the last ones to finish are short. Reused between calls.</summary>
internal sealed class WorkList
{
    /// <summary>
    /// Lengths that are told apart: the last items to finish differ from the best order by a 64th of the longest one at most, and 1,280 items (64 sequences of 5k keys in splits) are in order after two
    /// passes instead of 13,000 comparisons.
    /// </summary>
    private const int Steps = 64;

    private WorkItem[] _items = new WorkItem[16];
    private WorkItem[] _others = [];
    private byte[] _steps = [];
    private double _costOfPair;
    private long _pairs;
    private long _most;

    /// <summary>Sequences that the items belong to.</summary>
    public int Sequences { get; set; }

    public int Count { get; private set; }

    /// <summary>The sum of all costs.</summary>
    public double Cost => _pairs * _costOfPair;

    public ReadOnlySpan<WorkItem> Items => _items.AsSpan(0, Count);

    /// <param name="costOfPair">The cost of a row and a key (of a merge: a row and a split).</param>
    public void Clear(double costOfPair)
    {
        _costOfPair = costOfPair;
        Count = 0;
        Sequences = 0;
        (_pairs, _most) = (0, 0);
    }

    /// <summary>The cost of an item.</summary>
    public double CostOf(int index) => PairsOf(_items[index]) * _costOfPair;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(in WorkItem item)
    {
        int count = Count;
        if (count == _items.Length) Array.Resize(ref _items, 2 * count);
        _items[count] = item;
        Count = count + 1;
        long pairs = PairsOf(item);
        _pairs += pairs;
        if (pairs > _most) _most = pairs;
    }

    /// <summary>
    /// Puts the items in order. Items of one length stay in the order in which they were added. So do all where the longest is less than 1.5 times the average, as the splits of a decode step are: the end is
    /// ragged by about one item either way, and sorting is a third of such a plan.
    /// </summary>
    public void Sort()
    {
        if (Count < 2 || 2.0 * _most * Count < 3.0 * _pairs) return;
        if (_steps.Length < Count) (_others, _steps) = (new WorkItem[_items.Length], new byte[_items.Length]);
        ReadOnlySpan<WorkItem> items = Items;
        Span<byte> steps = _steps.AsSpan(0, items.Length);
        Span<int> next = stackalloc int[Steps];
        next.Clear();
        double scale = _most == 0 ? 0 : (Steps - 1) / (double)_most;
        for (int i = 0; i < items.Length; i++)
        {
            int step = Steps - 1 - (int)(PairsOf(items[i]) * scale);
            steps[i] = (byte)step;
            next[step]++;
        }

        int start = 0;
        for (int step = 0; step < Steps; step++) (next[step], start) = (start, start + next[step]);
        WorkItem[] others = _others;
        for (int i = 0; i < items.Length; i++) others[next[steps[i]]++] = items[i];
        (_items, _others) = (others, _items);
    }

    private static long PairsOf(in WorkItem item) => (long)(item.EndRow - item.FirstRow) * (item.EndKey - item.FirstKey);
}
