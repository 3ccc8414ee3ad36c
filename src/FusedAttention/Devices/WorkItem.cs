using System.Runtime.InteropServices;

namespace FusedAttention.Devices;

/// <summary>What one group of threads does for one key/value head, as the kernels read it.</summary>
/// <remarks>Where splits are merged, the keys are the splits to merge, and <see cref="Partial"/> is that of the first.</remarks>
[StructLayout(LayoutKind.Sequential)]
internal struct WorkItem
{
    public int Sequence;

    /// <summary>Rows are queries times the heads of the group, query-major.</summary>
    public int FirstRow;
    public int EndRow;

    /// <summary>Absolute key positions of the sequence.</summary>
    public int FirstKey;
    public int EndKey;

    /// <summary>The first row of partial results that the item writes; -1 if it writes outputs.</summary>
    public int Partial;

    /// <summary>
    /// Which split of its rows' keys this is, from 0. Partial rows of a split lie behind those of the one before, so those of the first begin at <see cref="Partial"/> - <see cref="Split"/> x key/value heads
    /// x the sequence's rows of a head.
    /// </summary>
    public int Split;

    /// <summary>
    /// How many splits there are, which are merged together; 0 where keys are not split. Where they are folded into groups (<see cref="SplitFolding"/>) two logarithms are above these 16 bits: <see cref="Folded"/>.
    /// </summary>
    public int Splits;

    /// <summary><see cref="Splits"/> where splits are folded.</summary>
    /// <param name="parts">How many parts there are to be brought together, splits or groups; 0 where the item has all keys.</param>
    /// <param name="groupShift">The logarithm of a group's keys.</param>
    /// <param name="partShift">The logarithm of a part's keys.</param>
    public static int Folded(int parts, int groupShift, int partShift) => parts | (groupShift << 16) | (partShift << 24);
}
