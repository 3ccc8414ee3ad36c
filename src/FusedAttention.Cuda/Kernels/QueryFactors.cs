using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Queries as left factors of matrix products, straight from device memory: where there are few rows, each is read once.</summary>
internal static class QueryFactors
{
    /// <summary>For each 16 columns, four registers.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="row">The lane's two rows, g and g + 8.</param>
    /// <param name="lane">Of the warp.</param>
    public static Pair[][] Load(PtxKernel k, CallReader call, RowReader[] row, I32 lane)
    {
        int dim = call.Traits.KeyDim;
        if (call.KeyValueFormat.Bytes() == 1) return LoadFours(k, dim, row, lane);
        I64 offset = I64.Product(lane & 3, 4);
        Global[] from = [row[0].QueryElements + offset, row[1].QueryElements + offset];
        var factors = new Pair[(dim + 15) / 16][];
        for (int slice = 0; slice < factors.Length; slice++)
        {
            factors[slice] = k.Registers<Pair>($"q{slice}_", 4);
            for (int i = 0; i < 4; i++)
            {
                // Columns beyond the last one are zero, as they are in the keys.
                int column = (slice * 16) + (i / 2 * 8);
                if (column < dim) k.Load(factors[slice][i], from[i & 1] + (column * 2));
                else factors[slice][i].Set((I32)0);
            }
        }

        return factors;
    }

    /// <summary>The same in the order that keys of 8 bits have (<see cref="EightBitSums"/>): a lane's columns of 16 are four neighbours. Dimensions are multiples of 16.</summary>
    private static Pair[][] LoadFours(PtxKernel k, int dim, RowReader[] row, I32 lane)
    {
        I64 offset = I64.Product(lane & 3, 8);
        Global[] from = [row[0].QueryElements + offset, row[1].QueryElements + offset];
        var factors = new Pair[dim / 16][];
        for (int slice = 0; slice < factors.Length; slice++)
        {
            factors[slice] = k.Registers<Pair>($"q{slice}_", 4);
            for (int r = 0; r < 2; r++) k.LoadVector([factors[slice][r], factors[slice][r + 2]], from[r] + (slice * 32));
        }

        return factors;
    }
}
