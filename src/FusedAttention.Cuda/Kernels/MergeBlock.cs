using System.Runtime.InteropServices;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// The one parameter of the kernel that merges parts by their log-sum-exps: a warp takes a row, <c>(batch, query, head)</c> counted row-major. Few sinks travel behind it, at <see cref="SinksBehindBlock"/>.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct MergeBlock
{
    /// <summary>Where sinks begin that travel with the block, from the block's beginning.</summary>
    public const int SinksBehindBlock = 208;

    public ulong Partials;
    public ulong PartialLogSumExps;
    public ulong Output;

    /// <summary>0 where it is not wanted.</summary>
    public ulong LogSumExp;

    /// <summary>One float a head, where <see cref="HasSinks"/>; 0: behind this block.</summary>
    public ulong SinkLogits;
    public int HasSinks;
    public int Reserved;

    public MergeParameters Merge;
}
