using FusedAttention.Metal.Launching;
using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>The work items of one kernel, in the order in which they run: long ones first, so that the last ones to finish are short.</summary>
internal sealed class WorkList(double costOfWork)
{
    /// <summary>
    /// Floating-point operations of a command buffer: half a second to a second of the slowest device (8 cores, 2.6 TFLOP/s at their peak), where the system stops what takes several.
    /// </summary>
    public const double BufferBudget = 1e12;

    private readonly List<(WorkItem Item, double Cost)> _items = [];

    /// <summary>How much longer than the prefill kernel this one may take for the same arithmetic.</summary>
    public double CostOfWork { get; } = costOfWork;

    /// <summary>Sequences that this kernel works on.</summary>
    public int Sequences { get; set; }

    public int Count => _items.Count;

    public WorkItem this[int index] => _items[index].Item;

    public void Add(in WorkItem item, double cost) => _items.Add((item, cost));

    public void Sort() => _items.Sort(static (x, y) => y.Cost.CompareTo(x.Cost));

    /// <summary>
    /// Cuts the list into ranges [first, end) of at most <paramref name="budget"/> each, where a range has one item at least. <paramref name="spent"/> is what the last command buffer has used
    /// already, before and after.
    /// </summary>
    /// <returns>The ranges, each with whether it begins a new command buffer.</returns>
    public List<(int First, int End, bool BeginsBuffer)> Cut(double budget, ref double spent)
    {
        var ranges = new List<(int First, int End, bool BeginsBuffer)>();
        int first = 0;
        bool begins = false;
        for (int i = 0; i < Count; i++)
        {
            if (spent > 0 && spent + _items[i].Cost > budget)
            {
                if (i > first) ranges.Add((first, i, begins));
                (first, begins, spent) = (i, true, 0);
            }

            spent += _items[i].Cost;
        }

        if (Count > first) ranges.Add((first, Count, begins));
        return ranges;
    }
}

/// <summary>All items of a call: for each kernel its list, and what is to be merged afterwards.</summary>
internal sealed class CallItems
{
    public Dictionary<KernelFamily, WorkList> Lists { get; } = [];

    /// <summary>Items of <c>merge_splits</c>, in the library of the kernel for few rows.</summary>
    public WorkList Merges { get; } = new(CostOfWork(KernelFamily.Plain));

    /// <summary>Rows of partial results.</summary>
    public long PartialRows { get; private set; }

    /// <summary>Sequences whose keys are split, and the most splits of one.</summary>
    public int SplitSequences { get; private set; }

    public int MostSplits { get; private set; }

    public static CallItems Of(AttentionProblem problem, KernelChoice choice)
    {
        var items = new CallItems();
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref readonly SequenceProblem sequence = ref problem.Sequences[s];
            if (sequence.QueryLength == 0) continue;
            CheckSizes(problem, sequence, s);
            bool isFew = SplitTable.IsFew(problem, sequence);
            KernelFamily family = isFew ? choice.Few : choice.Many;
            if (!items.Lists.TryGetValue(family, out WorkList? list)) items.Lists.Add(family, list = new WorkList(CostOfWork(family)));
            list.Sequences++;
            int rows = RowsPerItem(family, problem);
            if (isFew && choice.Splits) items.AddSplits(problem, list, s, sequence, rows);
            else AddBlocks(problem, list, sequence, rows, new WorkItem { Sequence = s, EndKey = sequence.KeyLength, Partial = -1 });
        }

        foreach (WorkList list in items.Lists.Values) list.Sort();
        items.Merges.Sort();
        return items;
    }

    public static int RowsPerItem(KernelFamily family, AttentionProblem problem) => family switch
    {
        KernelFamily.Prefill => TileTable.Prefill(problem.KeyDim, problem.ValueDim, problem.KeyValueType)!.Value.Rows,
        KernelFamily.Decode => TileTable.Decode(problem.KeyDim, problem.ValueDim)!.Value.ItemRows,
        _ => TileTable.PlainItemRows,
    };

    /// <summary>Kernels count rows and keys of a sequence in 32 bits, and pass the end of a tile by some.</summary>
    private static void CheckSizes(AttentionProblem problem, in SequenceProblem sequence, int index)
    {
        const int Limit = int.MaxValue - 1024;
        if ((long)sequence.QueryLength * problem.Group <= Limit && sequence.KeyLength <= Limit) return;
        throw new NotSupportedException(
            $"Sequence {index} has {sequence.QueryLength} queries x {problem.Group} heads a key/value head and {sequence.KeyLength} keys; the Metal kernels take up to {Limit} of either.");
    }

    /// <summary>Blocks of rows over the keys of one item, all of them or a split; of these, what the block's rows may see.</summary>
    private static void AddBlocks(AttentionProblem problem, WorkList list, in SequenceProblem sequence, int rowsPerItem, WorkItem keys)
    {
        int rows = sequence.QueryLength * problem.Group;
        for (int row = 0; row < rows; row += rowsPerItem)
        {
            int end = Math.Min(row + rowsPerItem, rows);
            KeyRange range = problem.RangeOf(sequence, row / problem.Group, (end - 1) / problem.Group).Intersect(keys.FirstKey, keys.EndKey);
            WorkItem item = keys with { FirstRow = row, EndRow = end, FirstKey = range.IsEmpty ? 0 : range.Start, EndKey = range.IsEmpty ? 0 : range.End };
            list.Add(item, Cost(problem, end - row, range.Length) * list.CostOfWork);
        }
    }

    /// <summary>The keys that the sequence's queries may see, split at multiples of the split size; a single split is no split.</summary>
    private void AddSplits(AttentionProblem problem, WorkList list, int index, in SequenceProblem sequence, int rowsPerItem)
    {
        KeySplits keys = SplitTable.Of(problem.RangeOf(sequence, 0, sequence.QueryLength - 1));
        int splits = keys.Count;
        int rows = sequence.QueryLength * problem.Group;
        long start = PartialRows;
        for (int split = 0; split < splits; split++)
        {
            long partial = start + ((long)split * problem.KeyValueHeads * rows);
            AddBlocks(problem, list, sequence, rowsPerItem, new WorkItem
            {
                Sequence = index,
                FirstKey = keys[split].Start,
                EndKey = keys[split].End,
                Partial = splits == 1 ? -1 : checked((int)partial),
            });
        }

        if (splits == 1) return;
        SplitSequences++;
        MostSplits = Math.Max(MostSplits, splits);
        PartialRows += (long)splits * problem.KeyValueHeads * rows;
        for (int row = 0; row < rows; row += TileTable.PlainSimdgroups)
        {
            int end = Math.Min(row + TileTable.PlainSimdgroups, rows);
            Merges.Add(new WorkItem { Sequence = index, FirstRow = row, EndRow = end, EndKey = splits, Partial = checked((int)start) }, Cost(problem, end - row, splits) * Merges.CostOfWork);
        }
    }

    /// <summary>
    /// A guess on the safe side, for bounding command buffers only: decode waits for memory and the plain kernel for its sums over lanes, where matrices run near the peak.
    /// </summary>
    private static double CostOfWork(KernelFamily family) => family switch
    {
        KernelFamily.Prefill => 1,
        KernelFamily.Decode => 4,
        _ => 10,
    };

    /// <summary>Floating-point operations of an item over all key/value heads.</summary>
    private static double Cost(AttentionProblem problem, int rows, int keys) => 2.0 * rows * keys * (problem.KeyDim + problem.ValueDim) * problem.KeyValueHeads;
}
