namespace FusedAttention.Cuda.Kernels;

/// <summary>The sizes of a decode kernel.</summary>
/// <param name="Warps">Of a block, each with keys of its own.</param>
/// <param name="Keys">That a warp takes at a time: 16 or 32.</param>
/// <param name="Stages">Of keys and values that a warp has in shared memory, one of which it works on.</param>
/// <param name="Blocks">Of threads that share a multiprocessor.</param>
internal readonly record struct DecodeTile(int Warps, int Keys, int Stages, int Blocks)
{
    /// <summary>Rows of an item: what one matrix product has.</summary>
    public const int Rows = 16;

    /// <summary>Keys after which the warps of a block bring their sums together: whole steps of all warps, from a multiple of it on.</summary>
    public const int SplitKeys = 512;

    /// <summary>Registers that queries, a warp's sums and two more of its share of sums may take together; 95 others are needed.</summary>
    private const int MostSumRegisters = 160;

    /// <summary>In front of the stages, what warps tell each other: 64 bytes, and m and l of each warp and row.</summary>
    public int HeadBytes => 64 + (Warps * Rows * 2 * sizeof(float));

    public int Threads => Warps * 32;

    /// <summary>Blocks of eight columns of O that a warp looks after where sums are brought together.</summary>
    public int ColumnBlocks(int valueDim) => ((valueDim / 8) + Warps - 1) / Warps;

    /// <summary>Whether the sums of groups and of the whole are kept in shared memory.</summary>
    public static bool KeepsSumsInShared(int keyDim, int valueDim) => (keyDim / 4) + (3 * valueDim / 4) > MostSumRegisters;

    /// <summary>Keys and values of a warp's step. Between two steps the sums of the warp lie there.</summary>
    public int StageBytes(int keyDim, int valueDim) => Math.Max(new SharedRows(keyDim).BytesOf(Keys) + new SharedRows(valueDim).BytesOf(Keys), Rows * valueDim * sizeof(float));

    /// <summary>The head and all stages.</summary>
    public int StagedBytes(int keyDim, int valueDim) => HeadBytes + (Warps * Stages * StageBytes(keyDim, valueDim));

    /// <summary>Shared memory of a block.</summary>
    public int SharedBytes(int keyDim, int valueDim) => StagedBytes(keyDim, valueDim) + (KeepsSumsInShared(keyDim, valueDim) ? 2 * KeptSums.BytesOf(Threads, ColumnBlocks(valueDim)) : 0);
}
