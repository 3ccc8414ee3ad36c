using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Rows that four lanes (a quad) share as matrix products leave them: of every eight columns a lane has two, a register of 16-bit elements. Exchanged so that a lane has eight neighbours of every 32, they
/// are stored in vectors of 16 bytes: two shuffles and four selections for two registers, no shared memory.
/// </summary>
/// <param name="k">The kernel.</param>
/// <param name="lane">Of the warp.</param>
internal sealed class QuadRows(PtxKernel k, I32 lane)
{
    private const int ColumnsOfQuad = 32;

    private readonly Predicate _isOdd = (lane & 1).IsNot(0);
    private readonly Predicate _isUpper = (lane & 2).IsNot(0);

    /// <summary>Stores a row.</summary>
    /// <param name="to">Where it begins, a multiple of 16.</param>
    /// <param name="pairs">The lane's registers, one of every eight columns; a multiple of four.</param>
    /// <param name="columns">That are stored: a multiple of 8.</param>
    /// <param name="isStored">Whether it is stored at all.</param>
    public void Store(Global to, Pair[] pairs, int columns, Predicate isStored)
    {
        I32 q = lane & 3;
        Global mine = to + I64.Product(q, 16);
        for (int first = 0; first < columns; first += ColumnsOfQuad)
        {
            Pair[] four = pairs[(first / 8)..((first / 8) + 4)];
            Exchange(four, 0, 1, 1, _isOdd);
            Exchange(four, 2, 3, 1, _isOdd);
            Exchange(four, 0, 2, 2, _isUpper);
            Exchange(four, 1, 3, 2, _isUpper);
            Predicate isInside = first + ColumnsOfQuad <= columns ? isStored : isStored & (q < (columns - first) / 8);
            k.Where(isInside, () => k.StoreVector(mine + (first * sizeof(ushort)), four));
        }
    }

    /// <summary>A lane gives one of two registers to the lane whose number differs in a bit, and gets the other's.</summary>
    private void Exchange(Pair[] four, int low, int high, int bit, Predicate isHigh)
    {
        Pair theirs = k.ShuffleXor(Pair.Select(isHigh, four[low], four[high]), bit);
        (four[low], four[high]) = (Pair.Select(isHigh, theirs, four[low]), Pair.Select(isHigh, four[high], theirs));
    }
}
