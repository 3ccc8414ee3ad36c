namespace FusedAttention.Cuda.Kernels;

/// <summary>The sizes of a prefill kernel.</summary>
/// <param name="Warps">Of a block.</param>
/// <param name="RowsOfWarp">16 or 32: with 32, keys and values that were loaded from shared memory serve two products.</param>
/// <param name="Keys">Of a tile, a multiple of 16.</param>
/// <param name="Stages">Tiles of keys and values in shared memory, one of which is worked on.</param>
/// <param name="Blocks">Of threads that share a multiprocessor.</param>
internal readonly record struct PrefillTile(int Warps, int RowsOfWarp, int Keys, int Stages, int Blocks)
{
    /// <summary>In front of the tiles: what warps tell each other.</summary>
    public const int HeadBytes = 64;

    public int Threads => Warps * 32;

    public int Rows => Warps * RowsOfWarp;

    /// <summary>Queries, and at the end outputs in their place.</summary>
    public int QueryBytes(int keyDim, int valueDim) => Rows * Math.Max(new SharedRows(keyDim).Stride, new SharedRows(valueDim).Stride);

    public int StageBytes(int keyDim, int valueDim) => new SharedRows(keyDim).BytesOf(Keys) + new SharedRows(valueDim).BytesOf(Keys);

    public int SharedBytes(int keyDim, int valueDim) => HeadBytes + QueryBytes(keyDim, valueDim) + (Stages * StageBytes(keyDim, valueDim));
}
