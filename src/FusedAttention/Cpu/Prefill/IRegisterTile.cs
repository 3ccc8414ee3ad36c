using FusedAttention.Cpu.Planning;

namespace FusedAttention.Cpu.Prefill;

/// <summary>
/// The innermost product of the prefill kernel, C = A B or C += A B for a tile of C that lives in registers: <see cref="Rows"/> rows by two vectors.
/// Each element is a chain of multiply-adds in the order of the shared dimension, whatever the tile's shape, so the tile's shape never shows in the bits.
/// </summary>
internal unsafe interface IRegisterTile
{
    /// <summary>Rows of the tile; two vectors of columns.</summary>
    static abstract int Rows { get; }

    /// <summary>
    /// Scores: S[r, 0..2W) = sum_d Q[r, d] K[d, 0..2W). Q is packed [dim][<see cref="Rows"/>], K is packed [dim][2W], S has rows of <see cref="PrefillTiles.Keys"/> floats.
    /// </summary>
    /// <remarks>
    /// With <paramref name="accumulate"/> the sum is added to S: long dimensions are summed in blocks of <see cref="PrefillTiles.DimBlock"/>, so that rounding errors grow with
    /// the block and the number of blocks instead of their product.
    /// </remarks>
    static abstract void Scores(float* q, float* k, float* s, int dim, bool accumulate);

    /// <summary>
    /// Output: O[r, 0..2W) += sum_j P[r, j] V[j, 0..2W). P has rows of <see cref="PrefillTiles.Keys"/> floats, V is packed [keys][2W], O has rows of
    /// <paramref name="outputStride"/> floats. The tile of keys is summed on its own and then added, for the same reason.
    /// </summary>
    static abstract void Accumulate(float* p, float* v, float* o, nint outputStride, int keys);
}
