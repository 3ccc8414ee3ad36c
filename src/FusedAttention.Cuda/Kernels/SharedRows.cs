using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// How rows of 16-bit elements lie in shared memory: columns rounded up to what a matrix product takes, and 16 bytes more, so that eight rows, which a matrix unit reads at once, begin in eight different
/// sets of banks. Every element is then at a constant offset from the lane's first one.
/// </summary>
/// <param name="dim">Elements that a row has: a multiple of 8.</param>
internal readonly struct SharedRows(int dim)
{
    /// <summary>Elements of a chunk, the unit of copies.</summary>
    public const int Chunk = 8;

    public int Dim { get; } = dim;

    /// <summary>Elements that products run over: those beyond the row's are zero.</summary>
    public int Columns { get; } = (dim + 15) / 16 * 16;

    /// <summary>Bytes from a row to the next one: an odd number of 16-byte units.</summary>
    public int Stride => (Columns * 2) + 16;

    public int BytesOf(int rows) => rows * Stride;

    /// <summary>
    /// Where a lane's row of four 8 x 8 matrices begins, of rows that are a factor's columns (keys of Q K^T): matrices 0 and 1 are the two halves of 16 columns of rows 0 to 7, 2 and 3 those of rows 8 to 15.
    /// </summary>
    public I32 LaneOffsetOfColumns(I32 lane) => I32.MultiplyAdd((lane & 7) + ((lane >>> 4) << 3), Stride, ((lane >>> 3) & 1) << 4);

    /// <summary>The same of rows that are a factor's rows (queries, and values of P V, transposed): matrices 0 and 1 are rows 0 to 7 and 8 to 15 of columns 0 to 7, 2 and 3 those of columns 8 to 15.</summary>
    public I32 LaneOffsetOfRows(I32 lane) => I32.MultiplyAdd(lane & 15, Stride, (lane >>> 4) << 4);
}
