using System.Runtime.CompilerServices;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>Where the tables and partial results of a call lie in its transient memory: offsets in bytes, multiples of 256.</summary>
internal sealed class ScratchLayout
{
    private const int Boundary = 256;

    private ScratchLayout()
    {
    }

    public long Sequences { get; private set; }

    public long Items { get; private set; }

    public long Merges { get; private set; }

    public long BlockTables { get; private set; }

    public long AlibiSlopes { get; private set; }

    public long SinkLogits { get; private set; }

    public long PartialOutputs { get; private set; }

    public long PartialStatistics { get; private set; }

    public long Bytes { get; private set; }

    public static ScratchLayout Of(AttentionProblem problem, CallItems items)
    {
        var layout = new ScratchLayout();
        layout.Sequences = layout.Take(problem.SequenceCount, Unsafe.SizeOf<SequenceEntry>());
        layout.Items = layout.Take(items.Lists.Values.Sum(list => (long)list.Count), Unsafe.SizeOf<WorkItem>());
        layout.Merges = layout.Take(items.Merges.Count, Unsafe.SizeOf<WorkItem>());
        layout.BlockTables = layout.Take(BlockEntries(problem), sizeof(int));
        layout.AlibiSlopes = layout.Take(problem.AlibiSlopes.Length, sizeof(float));
        layout.SinkLogits = layout.Take(problem.SinkLogits.Length, sizeof(float));
        layout.PartialOutputs = layout.Take(items.PartialRows * problem.ValueDim, sizeof(float));
        layout.PartialStatistics = layout.Take(items.PartialRows * 2, sizeof(float));
        return layout;
    }

    /// <summary>The blocks [First, End) of a sequence that hold a key which some query may see: only their entries of the table are sound.</summary>
    public static (int First, int End) Blocks(AttentionProblem problem, in SequenceProblem sequence)
    {
        if (problem.BlockSize == 0 || sequence.QueryLength == 0) return (0, 0);
        KeyRange range = problem.RangeOf(sequence, 0, sequence.QueryLength - 1);
        return range.IsEmpty ? (0, 0) : (range.Start / problem.BlockSize, ((range.End - 1) / problem.BlockSize) + 1);
    }

    private static long BlockEntries(AttentionProblem problem)
    {
        long entries = 0;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences)
        {
            (int first, int end) = Blocks(problem, sequence);
            entries += end - first;
        }

        return entries;
    }

    /// <summary>An empty table gets the first one's place: a buffer may not be bound at its end.</summary>
    private long Take(long count, int size)
    {
        if (count == 0) return 0;
        long start = Bytes;
        Bytes = checked(start + (((count * size) + Boundary - 1) / Boundary * Boundary));
        return start;
    }
}
