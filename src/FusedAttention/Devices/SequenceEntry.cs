using System.Runtime.InteropServices;
using FusedAttention.Problems;

namespace FusedAttention.Devices;

/// <summary>One sequence of a call, as the kernels read it.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SequenceEntry
{
    public long QueryStart;
    public long OutputStart;
    public long KeyStart;
    public long ValueStart;
    public long MaskStart;
    public long BiasStart;
    public long LogSumExpStart;

    /// <summary>Where the entry of block 0 would be among the call's block tables: entries before the first block that is needed are not there.</summary>
    public long BlockTableStart;
    public long QueryOffset;
    public int QueryLength;
    public int KeyLength;

    public static SequenceEntry Of(in SequenceProblem sequence, long blockTableStart) => new()
    {
        QueryStart = sequence.QueryStart,
        OutputStart = sequence.OutputStart,
        KeyStart = sequence.KeyStart,
        ValueStart = sequence.ValueStart,
        MaskStart = sequence.MaskStart,
        BiasStart = sequence.BiasStart,
        LogSumExpStart = sequence.LogSumExpStart,
        BlockTableStart = blockTableStart,
        QueryOffset = sequence.QueryOffset,
        QueryLength = sequence.QueryLength,
        KeyLength = sequence.KeyLength,
    };
}
