using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// The two products of attention as <see cref="MatrixSums"/> has them, with keys and values of 8 bits in shared memory, which become 16 bits in registers: two codes lie, are copied and are loaded as one element
/// of 16 bits would.
/// </summary>
/// <remarks>
/// No code changes its lane. A lane gets four neighbours of a key, which it takes for columns 2 q, 2 q + 1 and 2 q + 8, 2 q + 9 of the 16 that a product sums over: queries lie in the same order (<see cref="QueryFactors"/>).
/// Of values, transposed as pairs, it gets two neighbours of each of two keys: one product has the even columns of 16, the next one the odd columns; <see cref="DecodeFold"/> puts those in order where sums leave the registers.
/// </remarks>
/// <param name="k">The kernel.</param>
/// <param name="codes">Their form, and that of the other factors.</param>
/// <param name="format">Of the other factors, 16 bits.</param>
internal sealed class EightBitSums(PtxKernel k, EightBits codes, ElementFormat format)
{
    /// <summary><c>S += Q K^T</c>.</summary>
    /// <param name="scores">Half as many registers as there are keys.</param>
    /// <param name="queries">The left factors of 16 columns, by their number.</param>
    /// <param name="place">The lane's matrices, by the first of 16 keys and the number of 32 columns.</param>
    /// <param name="dim">Columns, a multiple of 16.</param>
    /// <param name="count">Keys, a multiple of 16.</param>
    public void AddProducts(F32[] scores, Pair[][] queries, Func<int, int, Shared> place, int dim, int count)
    {
        for (int first = 0; first < dim; first += 32)
        {
            for (int key = 0; key < count; key += 16)
            {
                Pair[] right = k.LoadMatrices(place(key, first / 32));
                for (int slice = 0; slice < 2 && first + (16 * slice) < dim; slice++)
                {
                    for (int half = 0; half < 2; half++)
                    {
                        (Pair low, Pair high) = codes.Neighbours(right[(2 * half) + slice]);
                        k.AddMatrixProduct(format, scores, (key / 2) + (4 * half), queries[(first / 16) + slice], low, high);
                    }
                }
            }
        }
    }

    /// <summary><c>O += P V</c>.</summary>
    /// <param name="outputs">Half as many registers as there are columns: of each 16 columns those of the even ones, and those of the odd ones.</param>
    /// <param name="weights">For each 16 keys, four registers.</param>
    /// <param name="place">The lane's matrices, by the first of 16 keys and the number of 32 columns.</param>
    /// <param name="dim">Columns, a multiple of 16.</param>
    public void AddWeightedValues(F32[] outputs, Pair[][] weights, Func<int, int, Shared> place, int dim)
    {
        for (int slice = 0; slice < weights.Length; slice++)
        {
            for (int column = 0; column < dim; column += 32)
            {
                bool isHalf = column + 32 > dim;
                Shared at = place(slice * 16, column / 32);
                Pair[] right = isHalf ? k.LoadTwoMatrices(at, transposed: true) : k.LoadMatrices(at, transposed: true);
                for (int i = 0; i < right.Length; i += 2)
                {
                    (Pair even0, Pair odd0) = codes.Alternating(right[i]);
                    (Pair even1, Pair odd1) = codes.Alternating(right[i + 1]);
                    int first = (column / 2) + (4 * i);
                    k.AddMatrixProduct(format, outputs, first, weights[slice], even0, even1);
                    k.AddMatrixProduct(format, outputs, first + 4, weights[slice], odd0, odd1);
                }
            }
        }
    }
}
