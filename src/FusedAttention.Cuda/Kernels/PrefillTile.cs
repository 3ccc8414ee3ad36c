namespace FusedAttention.Cuda.Kernels;

/// <summary>The sizes of a prefill kernel.</summary>
/// <param name="Warps">Of a block.</param>
/// <param name="RowsOfWarp">16 or 32: with 32, keys and values that were loaded from shared memory serve two products.</param>
/// <param name="Keys">Of a tile, a multiple of 16.</param>
/// <param name="Blocks">Of threads that share a multiprocessor.</param>
internal readonly record struct PrefillTile(int Warps, int RowsOfWarp, int Keys, int Blocks)
{
    /// <summary>Bytes of an element of keys and values: 2, or 1, which become 2 in a tile of their own.</summary>
    public int ElementBytes { get; init; } = 2;

    /// <summary>Numbers of each row that the score function goes by, which are computed once: those of its <see cref="Scores.Tracing.ScoreForm"/>.</summary>
    public int RowNumbers { get; init; }

    /// <summary>Whether two warps have the same rows (<see cref="WarpPair"/>): not with masks and functions, whose look at a tile is one warp's.</summary>
    public bool HasPairs { get; init; }

    /// <summary>Numbers of each tile that it goes by, which the block computes as it copies the tile.</summary>
    public TileNumberPlaces Numbers { get; init; }

    /// <summary>Where the head has the ranges of warps, 16 bytes each; before that is what warps tell each other.</summary>
    public const int RangesOffset = 64;

    /// <summary>In front of the tiles.</summary>
    public int HeadBytes => RangesOffset + (Warps * 16);

    /// <summary>Tiles of keys and values in shared memory: one that is worked on, and one that is on its way.</summary>
    public const int Stages = 2;

    public int Threads => Warps * 32;

    public int Rows => Warps / WarpsOfRows * RowsOfWarp;

    /// <summary>Warps that have the same rows: each has as much of a tile's keys, and of the columns of values.</summary>
    public int WarpsOfRows => HasPairs ? 2 : 1;

    /// <summary>Keys of a tile whose scores a warp computes.</summary>
    public int KeysOfWarp => Keys / WarpsOfRows;

    /// <summary>Queries, and at the end outputs in their place.</summary>
    public int QueryBytes(int keyDim, int valueDim) => Rows * Math.Max(new SharedRows(keyDim).Stride, new SharedRows(valueDim).Stride);

    /// <summary>What is there of a tile: keys and values as they come, and behind them the tile's numbers.</summary>
    public int StageBytes(int keyDim, int valueDim) => NumbersOffset(keyDim, valueDim) + Numbers.Bytes(Rows, Keys);

    /// <summary>Keys and values; of 8 bits, the scales of both behind them.</summary>
    public int NumbersOffset(int keyDim, int valueDim) => ElementBytes == 1 ? BytesOfTile(keyDim / 2, valueDim / 2) + (2 * Keys * sizeof(float)) : BytesOfTile(keyDim, valueDim);

    /// <summary>All stages; with elements of 8 bits, the tile that they are widened to in front of them.</summary>
    public int StagesBytes(int keyDim, int valueDim) => WideBytes(keyDim, valueDim) + (Stages * StageBytes(keyDim, valueDim));

    /// <summary>Of the tile that elements of 8 bits are widened to.</summary>
    public int WideBytes(int keyDim, int valueDim) => ElementBytes == 1 ? BytesOfTile(keyDim, valueDim) : 0;

    /// <summary>Bytes of a tile's mask, a byte a score, that are a thread's.</summary>
    public int MaskBytesOfLane => Keys * RowsOfWarp / 32;

    /// <summary>From one thread's bytes of the mask to the next one's, with 16 bytes for what else the thread keeps there: where there are many, an odd number of 16-byte units, so that eight threads read from eight different sets of banks.</summary>
    public int MaskStride => (MaskBytesOfLane + 31) & -16;

    /// <summary>A tile's mask.</summary>
    public int MaskBytes => Threads * MaskStride;

    /// <summary>What a warp of a pair leaves for the other one: its weights of a tile, and eight bytes for each row.</summary>
    public int PairBytesOfWarp => PairWeightBytesOfWarp + (RowsOfWarp * 8);

    /// <summary>Of the weights alone.</summary>
    public int PairWeightBytesOfWarp => KeysOfWarp * RowsOfWarp * 2;

    /// <summary>What all warps leave for each other.</summary>
    public int PairBytes => HasPairs ? Warps * PairBytesOfWarp : 0;

    /// <summary>The rows' numbers.</summary>
    public int RowNumberBytes => Rows * RowNumbers * sizeof(float);

    public int SharedBytes(int keyDim, int valueDim, bool hasMask) => HeadBytes + QueryBytes(keyDim, valueDim) + StagesBytes(keyDim, valueDim) + RowNumberBytes + PairBytes + (hasMask ? MaskBytes : 0);

    private int BytesOfTile(int keyDim, int valueDim) => new SharedRows(keyDim).BytesOf(Keys) + new SharedRows(valueDim).BytesOf(Keys);
}
