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

    /// <summary>In front of the stages, what warps tell each other: 64 bytes, and m and l of each warp and row.</summary>
    public int HeadBytes => 64 + (Warps * Rows * 2 * sizeof(float));

    public int Threads => Warps * 32;

    /// <summary>Keys and values of a warp's step.</summary>
    public int StageBytes(int keyDim, int valueDim) => new SharedRows(keyDim).BytesOf(Keys) + new SharedRows(valueDim).BytesOf(Keys);

    /// <summary>Shared memory of a block. The stages are used again where warps bring their sums together.</summary>
    public int SharedBytes(int keyDim, int valueDim) => HeadBytes + Math.Max(Warps * Stages * StageBytes(keyDim, valueDim), Warps * Rows * valueDim * sizeof(float));
}
