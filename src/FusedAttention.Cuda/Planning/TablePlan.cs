using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>Block tables of the caller's on the device: <c>[sequences, max blocks per sequence]</c>, the entries of a row side by side.</summary>
/// <param name="Place">Where the first one is.</param>
/// <param name="RowBytes">From one row to the next.</param>
internal readonly record struct TablePlace(MemoryPlace Place, long RowBytes);

/// <summary>Checking and copying block tables that lie on the device.</summary>
internal static class TablePlan
{
    /// <summary>The kernel.</summary>
    public static KernelFunction Function { get; } = new("check_tables", "check block tables", TableKernel.Threads, sharedBytes: 0, static () => TableKernel.Write().ToString());

    /// <summary>Sequences whose ranges travel in the launch's parameter.</summary>
    public static unsafe int MostInlineRanges => (CallBlock.MostParameterBytes - TableBlock.RangesBehindBlock) / sizeof(TableRange);

    /// <summary>Where ranges that travel in the parameter are written.</summary>
    /// <param name="parameters"><see cref="CallBlock.MostParameterBytes"/>.</param>
    public static Span<TableRange> InlineRanges(Span<byte> parameters) => MemoryMarshal.Cast<byte, TableRange>(parameters[TableBlock.RangesBehindBlock..]);

    /// <summary>Which entries the call needs, and where the tables of a <see cref="ScratchLayout"/> have them.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="ranges">Receives one a sequence.</param>
    public static void WriteRanges(AttentionProblem problem, Span<TableRange> ranges)
    {
        long next = 0;
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            (int first, int end) = problem.NeededBlocks(problem.Sequences[s]);
            ranges[s] = new(next - first, first, end);
            next += end - first;
        }
    }

    /// <summary>The launch.</summary>
    /// <param name="sequences">Of the call; 1 or more.</param>
    /// <param name="tables">What is checked.</param>
    /// <param name="destination">Where the call's kernels look.</param>
    /// <param name="fault">A <see cref="TableFault"/> that the host sees.</param>
    /// <param name="blocks">Blocks that the cache has.</param>
    /// <param name="ranges">Where they are on the device; null: in the parameter.</param>
    /// <param name="parameters">Receives the parameter: <see cref="CallBlock.MostParameterBytes"/>; in use as long as the launch.</param>
    public static KernelLaunch Check(int sequences, in TablePlace tables, ulong destination, ulong fault, int blocks, MemoryPlace? ranges, Span<byte> parameters)
    {
        MemoryMarshal.Write(parameters, new TableBlock
        {
            Tables = tables.Place.Address(),
            RowBytes = tables.RowBytes,
            Checked = destination,
            Fault = fault,
            Ranges = ranges?.Address() ?? 0,
            Blocks = blocks,
        });
        return new(Function, (uint)sequences, 1, 1, parameters);
    }
}
