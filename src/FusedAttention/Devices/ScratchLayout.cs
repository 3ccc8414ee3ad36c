using System.Runtime.CompilerServices;
using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>
/// Where the tables and partial results of a call lie in its transient memory: offsets in bytes, multiples of the backend's boundary. The tables, which the processor writes, come first.
/// </summary>
internal struct ScratchLayout
{
    private int _boundary;

    public long Sequences { get; private set; }

    public long Items { get; private set; }

    public long Merges { get; private set; }

    public long BlockTables { get; private set; }

    public long AlibiSlopes { get; private set; }

    public long SinkLogits { get; private set; }

    /// <summary>Bytes of all tables.</summary>
    public long TableBytes { get; private set; }

    public long PartialOutputs { get; private set; }

    public long PartialStatistics { get; private set; }

    public long Bytes { get; private set; }

    /// <param name="problem">The call.</param>
    /// <param name="items">Work items of all kernels.</param>
    /// <param name="merges">Items of the merge of splits.</param>
    /// <param name="partialRows">Rows of partial results.</param>
    /// <param name="boundary">What places are multiples of: a power of two.</param>
    public static ScratchLayout Of(AttentionProblem problem, long items, long merges, long partialRows, int boundary)
    {
        var layout = new ScratchLayout { _boundary = boundary };
        layout.Sequences = layout.Take(problem.SequenceCount, Unsafe.SizeOf<SequenceEntry>());
        layout.Items = layout.Take(items, Unsafe.SizeOf<WorkItem>());
        layout.Merges = layout.Take(merges, Unsafe.SizeOf<WorkItem>());
        layout.BlockTables = layout.Take(BlockEntries(problem), sizeof(int));
        layout.AlibiSlopes = layout.Take(problem.AlibiSlopes.Length, sizeof(float));
        layout.SinkLogits = layout.Take(problem.SinkLogits.Length, sizeof(float));
        layout.TableBytes = layout.Bytes;
        layout.PartialOutputs = layout.Take(checked(partialRows * problem.ValueDim), sizeof(float));
        layout.PartialStatistics = layout.Take(partialRows * 2, sizeof(float));
        return layout;
    }

    private static long BlockEntries(AttentionProblem problem)
    {
        long entries = 0;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences)
        {
            (int first, int end) = problem.NeededBlocks(sequence);
            entries += end - first;
        }

        return entries;
    }

    /// <summary>An empty table gets the first one's place: a buffer may not be bound at its end.</summary>
    private long Take(long count, int size)
    {
        if (count == 0) return 0;
        long start = Bytes;
        Bytes = checked(start + (((count * size) + _boundary - 1) & -(long)_boundary));
        return start;
    }
}
