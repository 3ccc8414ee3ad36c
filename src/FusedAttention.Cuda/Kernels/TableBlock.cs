using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The one parameter of the kernel that checks block tables: block x of the grid is a sequence. Few ranges travel behind it, at <see cref="RangesBehindBlock"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TableBlock
{
    /// <summary>Where ranges begin that travel with the block, from the block's beginning.</summary>
    public const int RangesBehindBlock = 48;

    /// <summary>The caller's tables, rows of 32-bit block ids.</summary>
    public ulong Tables;

    /// <summary>From one row to the next, in bytes.</summary>
    public long RowBytes;

    /// <summary>Receives the entries that the call needs, one sequence after the other.</summary>
    public ulong Checked;

    /// <summary>A <see cref="TableFault"/> in memory that the host sees.</summary>
    public ulong Fault;

    /// <summary>A <see cref="TableRange"/> a sequence; 0: behind this block.</summary>
    public ulong Ranges;

    /// <summary>Blocks that the cache has; 1 or more.</summary>
    public int Blocks;
    public int Reserved;
}

/// <summary>The entries of a sequence's block table that a call needs.</summary>
/// <param name="Shift">Entry <c>i</c> goes to place <c>Shift + i</c>.</param>
/// <param name="First">The first of them.</param>
/// <param name="End">The one behind the last.</param>
internal readonly record struct TableRange(long Shift, int First, int End);

/// <summary>A block id that no block has, as a kernel met it: written at once, the last one to come stays.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TableFault
{
    public int Sequence;
    public int Entry;
    public int Id;

    /// <summary>Blocks that the cache has; 0 where nothing was met.</summary>
    public int Blocks;
}
