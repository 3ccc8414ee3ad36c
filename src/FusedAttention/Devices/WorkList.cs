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
    private double[] _costs = new double[16];
    private WorkItem[] _otherItems = [];
    private double[] _otherCosts = [];
    private byte[] _steps = [];
    private double _most;
    private double _least;

    /// <summary>Sequences that the items belong to.</summary>
    public int Sequences { get; set; }

    public int Count { get; private set; }

    /// <summary>The sum of all costs.</summary>
    public double Cost { get; private set; }

    public ReadOnlySpan<WorkItem> Items => _items.AsSpan(0, Count);

    public ReadOnlySpan<double> Costs => _costs.AsSpan(0, Count);

    public void Clear()
    {
        Count = 0;
        Cost = 0;
        Sequences = 0;
        (_most, _least) = (0, double.PositiveInfinity);
    }

    public void Add(in WorkItem item, double cost)
    {
        int count = Count;
        if (count == _items.Length) Grow();
        _items[count] = item;
        _costs[count] = cost;
        Count = count + 1;
        Cost += cost;
        if (cost > _most) _most = cost;
        if (cost < _least) _least = cost;
    }

    /// <summary>Puts the items in order. Items of one length stay in the order in which they were added.</summary>
    public void Sort()
    {
        if (Count < 2 || _most == _least) return;
        if (_steps.Length < Count) (_otherItems, _otherCosts, _steps) = (new WorkItem[_items.Length], new double[_items.Length], new byte[_items.Length]);
        Span<int> next = stackalloc int[Steps];
        next.Clear();
        double scale = (Steps - 1) / _most;
        for (int i = 0; i < Count; i++)
        {
            int step = Steps - 1 - (int)(_costs[i] * scale);
            _steps[i] = (byte)step;
            next[step]++;
        }

        int start = 0;
        for (int step = 0; step < Steps; step++) (next[step], start) = (start, start + next[step]);
        for (int i = 0; i < Count; i++)
        {
            int place = next[_steps[i]]++;
            _otherItems[place] = _items[i];
            _otherCosts[place] = _costs[i];
        }

        (_items, _otherItems) = (_otherItems, _items);
        (_costs, _otherCosts) = (_otherCosts, _costs);
    }

    private void Grow()
    {
        Array.Resize(ref _items, 2 * Count);
        Array.Resize(ref _costs, 2 * Count);
    }
}
