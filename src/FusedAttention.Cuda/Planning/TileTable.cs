using System.Numerics;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Planning;

/// <summary>The tile sizes of the kernels, with the arithmetic that chose them.</summary>
internal static class TileTable
{
    /// <summary>The most dimensions that any kernel takes: 32 floats a lane of each of Q and O.</summary>
    public const int MaxPlainDim = 1024;

    /// <summary>Elements that strides and beginnings are multiples of where prefill and decode are taken: 16 bytes, the longest copy from global to shared memory.</summary>
    public const int VectorElements = 8;

    /// <summary>The same in bytes.</summary>
    public const int VectorBytes = 16;

    /// <summary>
    /// Rows of a key/value head (queries times the group) up to which a sequence with more than one query is decoded: what one matrix product has, so that decoding reads keys and values once.
    /// </summary>
    public const int MostFewRows = 16;

    /// <summary>512 keys a split: at D = 128 in 16 bits 256 KB of keys and values of one head, 25 us of one multiprocessor's share of the read rate, where a split's start and end cost 3.</summary>
    public const int MinSplitKeys = 512;

    /// <summary>Blocks along y that a grid has, which is where key/value heads go.</summary>
    public const int MostKeyValueHeads = 65535;

    /// <summary>mma.sync of bfloat16, and copies to shared memory behind a kernel's back, came with compute capability 8.0.</summary>
    public const int FirstMatrixMajor = 8;

    /// <summary>Four warps with two rows each, one after the other, so that a long call does not have a block for every four rows.</summary>
    public static PlainTile Plain => new(Warps: 4, ItemRows: 8);

    /// <summary>
    /// Splits that long sequences are kept to: a sequence alone has some 128 blocks, one a multiprocessor, whatever its key/value heads; never fewer than 8 splits, and never more than 64, whose merge would
    /// be seen.
    /// </summary>
    public static int MostSplits(int keyValueHeads) => Math.Clamp(1 << BitOperations.Log2((uint)(128 / keyValueHeads)), 8, 64);

    /// <summary>Whether both products are of matrices that the tensor cores take: keys, values and queries of one 16-bit type.</summary>
    public static bool HasMatrixTypes(AttentionProblem problem) => problem.QueryType == problem.KeyValueType && problem.QueryType.Size() == sizeof(ushort);

    /// <summary>The tile of a prefill, or null if its dimensions are not multiples of 8 from 16 to 256.</summary>
    public static PrefillTile? Prefill(int keyDim, int valueDim)
    {
        if (!IsDim(keyDim) || !IsDim(valueDim)) return null;
        return keyDim <= 128 && valueDim <= 128 ? new(Rows: 128, Keys: 64, Stages: 2) : new(Rows: 64, Keys: 32, Stages: 2);

        static bool IsDim(int dim) => dim % 8 == 0 && dim is >= 16 and <= 256;
    }

    /// <summary>The tile of a decode, or null if its dimensions are not multiples of 16 from 16 to 256.</summary>
    public static DecodeTile? Decode(int keyDim, int valueDim)
    {
        return IsDim(keyDim) && IsDim(valueDim) ? new(Rows: MostFewRows, Keys: 16, Warps: 4) : null;

        static bool IsDim(int dim) => dim % 16 == 0 && dim is >= 16 and <= 256;
    }
}
