using System.Runtime.InteropServices;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// The one parameter of every attention kernel: addresses, numbers, and where the call's tables are. Tables travel behind it, in the parameter itself, where they have room: then a call is one launch and no copy, which
/// costs some 10 us between two kernels.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CallBlock
{
    /// <summary>What every driver takes as parameters of one launch.</summary>
    public const int MostParameterBytes = 4096;

    /// <summary>What drivers from <see cref="FirstLongDriver"/> on take: 32,764, of which maps of tensors want multiples of 64, and their alignment counts among them (CUDA 12.1; PTX ISA 8.1, "Kernel Function Parameters").</summary>
    public const int LongParameterBytes = 32640;

    /// <summary>CUDA 12.1.</summary>
    public const int FirstLongDriver = 12010;

    public ulong Query;
    public ulong Key;
    public ulong Value;
    public ulong Output;
    public ulong Mask;
    public ulong Bias;
    public ulong LogSumExp;

    /// <summary>Where the tables begin: an address, or, below <see cref="LongParameterBytes"/>, how far behind the beginning of this block.</summary>
    public ulong Tables;

    /// <summary>Rows of partial results, <c>[row, value dim]</c> floats.</summary>
    public ulong PartialOutputs;

    /// <summary>Maximum and sum of each, <c>[row, 2]</c> floats.</summary>
    public ulong PartialStatistics;

    /// <summary>For the first row of split items, numbered as its partial result of the first split: how many of those items have arrived. All zero between launches.</summary>
    public ulong Counters;

    /// <summary>Offsets of the tables from <see cref="Tables"/>, in bytes.</summary>
    public int SequencesOffset;
    public int ItemsOffset;
    public int BlockTablesOffset;
    public int AlibiSlopesOffset;
    public int SinkLogitsOffset;

    /// <summary>Of the query heads of a key/value head, which rows are divided by: <see cref="Ptx.Reciprocal"/>.</summary>
    public uint GroupFactor;
    public int GroupShift;

    /// <summary>Keeps what follows at a multiple of 8.</summary>
    public int Reserved;

    public AttentionParameters Attention;
    public ScaleBlock KeyScale;
    public ScaleBlock ValueScale;

    /// <summary>Of a kernel's parameter, where it may be long.</summary>
    public static int BytesOf(bool hasLongParameters) => hasLongParameters ? LongParameterBytes : MostParameterBytes;
}
