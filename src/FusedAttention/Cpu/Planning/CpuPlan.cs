using FusedAttention.Cpu.Rows;
using FusedAttention.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Planning;

/// <summary>
/// How a problem is cut into work items: which kernel each sequence gets, how many rows or keys an item has, how many threads share them. A pure function of the problem,
/// the options and the number of threads; reused between calls, so that planning allocates nothing in steady state.
/// </summary>
/// <remarks>
/// The kernel and the split of keys, which show in the bits of a result, follow from the sequence alone. The number of threads decides only how rows and heads
/// are grouped, which does not show. Masks and biases are read, tensors are not: the split of a decode follows the keys that its queries may see, however the rest is hidden.
/// </remarks>
internal sealed class CpuPlan
{
    // Below this many multiply-adds (about 10 us) a second thread costs more than it brings.
    private const double MinCostPerThread = 4e5;

    // Items a thread should get, so that the last ones to finish are short against the whole.
    private const int ItemsPerThread = 4;

    // Rows of an item in double precision: each costs as much as a block of rows elsewhere.
    private const int WideRows = 16;

    // Kept, because sorting with a comparer makes a delegate each time.
    private static readonly Comparison<WorkItem> CostliestFirst = static (x, y) => y.Cost.CompareTo(x.Cost);

    private WorkItem[] _items = new WorkItem[4];

    public int Count { get; private set; }

    public int Threads { get; private set; }

    /// <summary>Working memory of one thread.</summary>
    public long ScratchBytes { get; private set; }

    /// <summary>Memory for the partial results of split decodes.</summary>
    public long PartialFloats { get; private set; }

    /// <summary>For each split decode and group of heads, how many chunks are still to come.</summary>
    public int[] RemainingChunks { get; private set; } = [];

    public int CounterCount { get; private set; }

    public int PrefillSequences { get; private set; }

    public int DecodeSequences { get; private set; }

    /// <summary>Sequences computed in double precision, because the call's numbers leave <see cref="FloatRange"/>.</summary>
    public int WideSequences { get; private set; }

    /// <summary>Multiply-adds.</summary>
    public double Cost { get; private set; }

    public ReadOnlySpan<WorkItem> Items => _items.AsSpan(0, Count);

    public string KernelName => (PrefillSequences, DecodeSequences, WideSequences) switch
    {
        (0, 0, 0) => "none",
        (_, 0, 0) => "prefill",
        (0, _, 0) => "decode",
        (_, _, 0) => "prefill + decode",
        _ => "double precision",
    };

    /// <summary>Single queries and a few rows over a long context read the cache in place; with more rows packing pays.</summary>
    public static bool IsDecode(AttentionProblem problem, in SequenceProblem sequence) => FewRows.Has(problem, sequence, DecodeTiles.MaxRows);

    public ref readonly WorkItem Item(int index) => ref _items[index];

    public void Build(AttentionProblem problem, IKernelSizes kernels, int maxThreads)
    {
        Count = 0;
        CounterCount = 0;
        PartialFloats = 0;
        ScratchBytes = 0;
        PrefillSequences = 0;
        DecodeSequences = 0;
        WideSequences = 0;
        Cost = problem.AllowedPairs() * problem.QueryHeads * (problem.KeyDim + problem.ValueDim);
        Threads = (int)Math.Clamp(Cost / MinCostPerThread, 1, maxThreads);

        int rowsPerItem = RowsPerItem(problem, kernels.PrefillRows(problem));
        int headsPerItem = HeadsPerItem(problem);
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref readonly SequenceProblem sequence = ref problem.Sequences[s];
            if (sequence.QueryLength == 0) continue;
            if (problem.IsBeyondFloats) AddWide(problem, s, sequence);
            else if (IsDecode(problem, sequence)) AddDecode(problem, kernels, s, sequence, headsPerItem);
            else AddPrefill(problem, kernels, s, sequence, rowsPerItem);
        }

        Threads = Math.Min(Threads, Math.Max(1, Count));
        if (Threads > 1) _items.AsSpan(0, Count).Sort(CostliestFirst);
    }

    private void AddWide(AttentionProblem problem, int index, in SequenceProblem sequence)
    {
        WideSequences++;
        AddRows(problem, index, sequence, WorkKind.Wide, WideRows);
    }

    private void AddPrefill(AttentionProblem problem, IKernelSizes kernels, int index, in SequenceProblem sequence, int rowsPerItem)
    {
        PrefillSequences++;
        int most = (int)Math.Min(rowsPerItem, (long)sequence.QueryLength * problem.Group);
        ScratchBytes = Math.Max(ScratchBytes, kernels.PrefillScratch(problem, new(most, problem.KeyDim, problem.ValueDim, PrefillSizes.AreLong(sequence.KeyLength), problem.KeyValueType.TakesScales())));
        AddRows(problem, index, sequence, WorkKind.Prefill, rowsPerItem);
    }

    /// <summary>Blocks of rows of each key/value head.</summary>
    private void AddRows(AttentionProblem problem, int index, in SequenceProblem sequence, WorkKind kind, int rowsPerItem)
    {
        long rows = (long)sequence.QueryLength * problem.Group;
        for (int head = 0; head < problem.KeyValueHeads; head++)
        {
            for (long row = 0; row < rows; row += rowsPerItem)
            {
                int count = (int)Math.Min(rowsPerItem, rows - row);
                int firstQuery = (int)(row / problem.Group);
                int endQuery = (int)((row + count - 1) / problem.Group) + 1;
                ref WorkItem item = ref Add();
                item.Sequence = index;
                item.Kind = kind;
                item.Head = head;
                item.HeadCount = 1;
                item.RowStart = row;
                item.RowCount = count;
                item.Cost = problem.AllowedPairs(sequence, firstQuery, endQuery) * count / (endQuery - firstQuery);
            }
        }
    }

    private void AddDecode(AttentionProblem problem, IKernelSizes kernels, int index, in SequenceProblem sequence, int headsPerItem)
    {
        DecodeSequences++;
        int rows = sequence.QueryLength * problem.Group;
        KeyRange visible = RowVisibility.Union(problem, sequence);
        KeySplits chunks = DecodeTiles.Chunks(visible);
        int rowFloats = kernels.PartialRowFloats(problem.ValueDim);
        for (int head = 0; head < problem.KeyValueHeads; head += headsPerItem)
        {
            int headCount = Math.Min(headsPerItem, problem.KeyValueHeads - head);
            long partialStride = (long)headCount * rows * rowFloats;
            int counter = chunks.Count > 1 ? AddCounter(chunks.Count) : 0;
            for (int c = 0; c < chunks.Count; c++)
            {
                KeyRange keys = chunks[c];
                ref WorkItem item = ref Add();
                item.Sequence = index;
                item.Kind = WorkKind.Decode;
                item.Head = head;
                item.HeadCount = headCount;
                item.RowCount = rows;
                item.KeyStart = keys.Start;
                item.KeyEnd = keys.End;
                item.VisibleKeys = visible.Length;
                item.Chunk = c;
                item.ChunkCount = chunks.Count;
                item.PartialStart = PartialFloats;
                item.PartialStride = partialStride;
                item.Counter = counter;
                item.Cost = (double)keys.Length * rows * headCount;
            }

            if (chunks.Count > 1) PartialFloats += chunks.Count * partialStride;
            ScratchBytes = Math.Max(ScratchBytes, kernels.DecodeScratch(problem, headCount, rows));
        }
    }

    /// <summary>Large blocks of rows spread the cost of packing; smaller ones keep all threads busy when there are few.</summary>
    private int RowsPerItem(AttentionProblem problem, in PrefillRows rows)
    {
        if (Threads == 1) return rows.Most / rows.Tile * rows.Tile;
        double all = 0;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences)
        {
            if (!IsDecode(problem, sequence)) all += (double)sequence.QueryLength * problem.QueryHeads;
        }

        return (int)Math.Clamp(all / (Threads * ItemsPerThread), rows.Least, rows.Most) / rows.Tile * rows.Tile;
    }

    /// <summary>
    /// All heads of a token are read together, as they lie in memory, unless there are too few chunks of keys for all threads. In a cache that keeps the tokens of a head together
    /// ([heads, tokens, dim]) each head is read by itself.
    /// </summary>
    private int HeadsPerItem(AttentionProblem problem)
    {
        if (problem.KeyHeadStride > problem.KeyTokenStride && problem.BlockSize == 0) return 1;
        if (Threads == 1) return problem.KeyValueHeads;
        long chunks = 0;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences)
        {
            if (sequence.QueryLength == 0 || !IsDecode(problem, sequence)) continue;
            chunks += DecodeTiles.Chunks(problem.RangeOf(sequence, 0, sequence.QueryLength - 1)).Count;
        }

        long wanted = Math.Clamp(((long)Threads * 2) / Math.Max(1, chunks), 1, problem.KeyValueHeads);
        return (int)((problem.KeyValueHeads + wanted - 1) / wanted);
    }

    private ref WorkItem Add()
    {
        if (Count == _items.Length) Array.Resize(ref _items, 2 * Count);
        ref WorkItem item = ref _items[Count++];
        item = default;
        return ref item;
    }

    private int AddCounter(int chunks)
    {
        if (CounterCount == RemainingChunks.Length)
        {
            int[] larger = new int[Math.Max(16, 2 * CounterCount)];
            RemainingChunks.CopyTo(larger, 0);
            RemainingChunks = larger;
        }

        RemainingChunks[CounterCount] = chunks;
        return CounterCount++;
    }
}
