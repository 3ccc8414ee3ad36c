using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>
/// What a call does on a device: which kernel works on which rows and keys, how the work is cut into launches, and where its tables lie. A function of the problem and the tile table alone; made
/// without running or compiling anything, reused between calls, so that planning allocates nothing in steady state.
/// </summary>
/// <remarks>
/// The kernel and the splits of keys, which show in the bits of a result, follow from the sequence alone. Cutting into submissions, the order of items, and which splits an item takes where they are folded do not show.
/// </remarks>
internal sealed class DevicePlan
{
    private const int Kernels = 3;

    /// <summary>Kernels count rows and keys of a sequence in 32 bits, and pass the end of a tile by some.</summary>
    private const int MostRowsOrKeys = int.MaxValue - 1024;

    /// <summary>By <see cref="AttentionKernel"/>.</summary>
    private readonly WorkList[] _lists = [new(), new(), new()];
    private readonly List<LaunchRange> _launches = [];
    private readonly ItemCutter _cutter = new();
    private ScratchLayout _scratch;

    public KernelChoice Choice { get; private set; }

    /// <summary>Items of the merge of splits, which comes last, behind the kernel for few rows; none where <see cref="ITileTable.MergesInKernel"/>.</summary>
    public WorkList Merges { get; } = new();

    /// <summary>Rows of partial results.</summary>
    public long PartialRows { get; private set; }

    /// <summary>Sequences whose keys are split among items, and the most that one is split into.</summary>
    public int SplitSequences { get; private set; }

    public int MostSplits { get; private set; }

    /// <summary>Launches, in order.</summary>
    public ReadOnlySpan<LaunchRange> Launches => CollectionsMarshal.AsSpan(_launches);

    public ref readonly ScratchLayout Scratch => ref _scratch;

    public bool IsEmpty => _launches.Count == 0;

    /// <summary>Items of all kernels and of the merge.</summary>
    public long ItemCount { get; private set; }

    /// <summary>The kernels in words, joined by <c>+</c>; <c>none</c> for an empty call.</summary>
    public string KernelName => (_lists[0].Count > 0, _lists[1].Count > 0, _lists[2].Count > 0) switch
    {
        (true, false, false) => "prefill",
        (false, true, false) => "plain",
        (false, false, true) => "decode",
        (true, true, false) => "prefill + plain",
        (true, false, true) => "prefill + decode",
        (false, true, true) => "plain + decode",
        (true, true, true) => "prefill + plain + decode",
        _ => "none",
    };

    public WorkList ItemsOf(AttentionKernel kernel) => _lists[(int)kernel];

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="tiles">The backend's kernels for it.</param>
    /// <exception cref="NotSupportedException">A sequence is too long for the kernels' numbers; the message has them.</exception>
    public void Build<TTiles>(AttentionProblem problem, in TTiles tiles)
        where TTiles : struct, ITileTable
    {
        double costOfPair = CostOfPair(problem);
        for (int kernel = 0; kernel < Kernels; kernel++) _lists[kernel].Clear(costOfPair * tiles.CostOfWork((AttentionKernel)kernel));
        Merges.Clear(costOfPair * tiles.CostOfWork(AttentionKernel.Plain));
        _launches.Clear();
        (PartialRows, SplitSequences, MostSplits) = (0, 0, 0);
        Choice = tiles.Choice;
        SplitFolding? folding = tiles.Folding;
        _cutter.Clear();
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref readonly SequenceProblem sequence = ref problem.Sequences[s];
            if (sequence.QueryLength == 0) continue;
            CheckSizes(problem, sequence, s);
            bool isFew = FewRows.Has(problem, sequence, tiles.MostFewRows);
            AttentionKernel kernel = isFew ? Choice.Few : Choice.Many;
            WorkList list = _lists[(int)kernel];
            list.Sequences++;
            int itemRows = tiles.ItemRows(kernel);
            if (isFew && Choice.Splits && folding is SplitFolding fold) _cutter.Add(s, problem.RangeOf(sequence, 0, sequence.QueryLength - 1), sequence.QueryLength * problem.Group, fold);
            else if (isFew && Choice.Splits) AddSplits(problem, tiles, list, s, itemRows);
            else AddBlocks(problem, list, s, itemRows, problem.RangeOf(sequence, 0, sequence.QueryLength - 1), new() { Partial = -1 });
        }

        if (folding is not null) AddFolded(problem, tiles, folding.Value);
        long items = 0;
        foreach (WorkList list in _lists)
        {
            list.Sort();
            items += list.Count;
        }

        Merges.Sort();
        ItemCount = items + Merges.Count;
        _scratch = items == 0 ? default : ScratchLayout.Of(problem, items, Merges.Count, PartialRows, tiles.TableBoundary);
        Cut(tiles.SubmissionBudget);
    }

    private static void CheckSizes(AttentionProblem problem, in SequenceProblem sequence, int index)
    {
        if ((long)sequence.QueryLength * problem.Group <= MostRowsOrKeys && sequence.KeyLength <= MostRowsOrKeys) return;
        throw new NotSupportedException(
            $"Sequence {index} has {sequence.QueryLength} queries x {problem.Group} heads a key/value head and {sequence.KeyLength} keys; the kernels take up to {MostRowsOrKeys} of either.");
    }

    /// <summary>Floating-point operations of a row and a key, over all key/value heads.</summary>
    private static double CostOfPair(AttentionProblem problem) => 2.0 * (problem.KeyDim + problem.ValueDim) * problem.KeyValueHeads;

    /// <summary>Blocks of rows over keys that some row may see, all of them or a split; of these, what the block's rows may see.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="list">Receives the items.</param>
    /// <param name="index">Of the sequence.</param>
    /// <param name="itemRows">Rows of a block.</param>
    /// <param name="keys">The keys.</param>
    /// <param name="first">The partial row and the place among the splits of the first block.</param>
    private static void AddBlocks(AttentionProblem problem, WorkList list, int index, int itemRows, KeyRange keys, in WorkItem first)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[index];
        int rows = sequence.QueryLength * problem.Group;
        WorkItem item = first with { Sequence = index };
        for (int row = 0; row < rows; row += itemRows)
        {
            int end = Math.Min(row + itemRows, rows);
            KeyRange range = end - row == rows ? keys : problem.RangeOf(sequence, row / problem.Group, (end - 1) / problem.Group).Intersect(keys.Start, keys.End);
            if (range.IsEmpty) range = default;
            (item.FirstRow, item.EndRow, item.FirstKey, item.EndKey) = (row, end, range.Start, range.End);
            list.Add(item);
        }
    }

    /// <summary>The keys that the sequence's queries may see, in splits; a single split is no split.</summary>
    private void AddSplits<TTiles>(AttentionProblem problem, in TTiles tiles, WorkList list, int index, int itemRows)
        where TTiles : struct, ITileTable
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[index];
        var splits = new KeySplits(problem.RangeOf(sequence, 0, sequence.QueryLength - 1), tiles.MinSplitKeys, tiles.MostSplits);
        if (splits.Count == 1)
        {
            AddBlocks(problem, list, index, itemRows, splits[0], new() { Partial = -1 });
            return;
        }

        long start = PartialRows;
        AddParts(problem, list, index, itemRows, splits, splits.Count);
        if (tiles.MergesInKernel) return;
        int rows = sequence.QueryLength * problem.Group;
        for (int row = 0; row < rows; row += tiles.MergeRows)
        {
            int end = Math.Min(row + tiles.MergeRows, rows);
            Merges.Add(new() { Sequence = index, FirstRow = row, EndRow = end, EndKey = splits.Count, Partial = checked((int)start) });
        }
    }

    /// <summary>The sequences whose splits their kernel folds, cut into items by what all of them are.</summary>
    private void AddFolded<TTiles>(AttentionProblem problem, in TTiles tiles, in SplitFolding folding)
        where TTiles : struct, ITileTable
    {
        WorkList list = _lists[(int)Choice.Few];
        int itemRows = tiles.ItemRows(Choice.Few);
        ItemCut cut = _cutter.Choose(folding, problem.KeyValueHeads, itemRows);
        foreach (ref readonly ItemCutter.Sequence sequence in _cutter.Sequences)
        {
            int shift = sequence.Groups.Shift;
            if (cut.Of(sequence, folding) is not ItemKeys.All and ItemKeys part)
            {
                KeySplits parts = part == ItemKeys.Group ? sequence.Groups : sequence.Splits;
                AddParts(problem, list, sequence.Index, itemRows, parts, WorkItem.Folded(parts.Count, shift, parts.Shift));
            }
            else
            {
                AddBlocks(problem, list, sequence.Index, itemRows, sequence.Visible, new() { Partial = -1, Splits = WorkItem.Folded(0, shift, 0) });
            }
        }
    }

    /// <summary>Items for each of several parts of the keys, which leave partial results.</summary>
    private void AddParts(AttentionProblem problem, WorkList list, int index, int itemRows, in KeySplits parts, int splits)
    {
        long rows = (long)problem.Sequences[index].QueryLength * problem.Group * problem.KeyValueHeads;
        for (int part = 0; part < parts.Count; part++, PartialRows += rows)
            AddBlocks(problem, list, index, itemRows, parts[part], new() { Partial = checked((int)PartialRows), Split = part, Splits = splits });

        SplitSequences++;
        MostSplits = Math.Max(MostSplits, parts.Count);
    }

    /// <summary>Launches: one a list, or as many as keep each submission to the budget, where each has one item at least.</summary>
    private void Cut(double budget)
    {
        double spent = 0;
        long offset = _scratch.Items;
        for (int kernel = 0; kernel < Kernels; kernel++)
        {
            Cut((AttentionKernel)kernel, isMerge: false, _lists[kernel], offset, budget, ref spent);
            offset += (long)_lists[kernel].Count * Unsafe.SizeOf<WorkItem>();
        }

        Cut(Choice.Few, isMerge: true, Merges, _scratch.Merges, budget, ref spent);
    }

    private void Cut(AttentionKernel kernel, bool isMerge, WorkList list, long offset, double budget, ref double spent)
    {
        int first = 0;
        bool begins = false;
        double taken = 0;
        if (spent + list.Cost <= budget)
        {
            taken = list.Cost;
            spent += taken;
        }
        else
        {
            for (int i = 0; i < list.Count; i++)
            {
                double cost = list.CostOf(i);
                if (spent > 0 && spent + cost > budget)
                {
                    Add(i);
                    (first, begins, spent, taken) = (i, true, 0, 0);
                }

                spent += cost;
                taken += cost;
            }
        }

        Add(list.Count);

        void Add(int end)
        {
            if (end > first) _launches.Add(new(kernel, isMerge, offset + ((long)first * Unsafe.SizeOf<WorkItem>()), end - first, begins, taken));
        }
    }
}
