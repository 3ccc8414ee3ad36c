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
}
