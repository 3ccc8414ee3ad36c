using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The two products of attention by 16 x 8 x 16 matrix products of a warp, with tiles in shared memory. Sums are kept in order of eight columns, four registers each.</summary>
internal static class MatrixSums
{
    /// <summary><c>S += Q K^T</c>.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="format">Of the elements.</param>
    /// <param name="scores">For each 16 rows, half as many registers as there are keys.</param>
    /// <param name="queries">The left factors of 16 columns, by their number: for each 16 rows, four registers.</param>
    /// <param name="keys">The tile.</param>
    /// <param name="layout">How it lies.</param>
    /// <param name="count">Keys, a multiple of 16.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="between">What is issued between the products, evenly; null: nothing is.</param>
    public static void AddProducts(PtxKernel k, ElementFormat format, F32[][] scores, Func<int, Pair[][]> queries, Shared keys, SharedRows layout, int count, I32 lane, Action[]? between = null)
    {
        Shared mine = keys + layout.LaneOffsetOfColumns(lane);
        AddProducts(k, format, scores, queries, (key, slice) => mine + ((key * layout.Stride) + (slice * 32)), layout.Columns / 16, count, between ?? []);
    }

    /// <summary>The same with keys of a box of more rows.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="format">Of the elements.</param>
    /// <param name="scores">For each 16 rows, half as many registers as there are keys.</param>
    /// <param name="queries">The left factors of 16 columns, by their number: for each 16 rows, four registers.</param>
    /// <param name="keys">The first of the keys in the first box: a multiple of eight rows.</param>
    /// <param name="layout">Of the boxes.</param>
    /// <param name="count">Keys, a multiple of 16.</param>
    /// <param name="lane">Of the warp.</param>
    public static void AddProducts(PtxKernel k, ElementFormat format, F32[][] scores, Func<int, Pair[][]> queries, Shared keys, BoxedRows layout, int count, I32 lane)
    {
        Shared[] mine = BoxedRows.SlicesOf(keys + BoxedRows.LaneOffsetOfColumns(lane));
        AddProducts(k, format, scores, queries, (key, slice) => BoxedRows.PlaceOf(mine, slice, key, layout.BoxBytes), layout.StepsOfColumns, count, []);
    }

    private static void AddProducts(PtxKernel k, ElementFormat format, F32[][] scores, Func<int, Pair[][]> queries, Func<int, int, Shared> at, int slices, int count, Action[] between)
    {
        for (int slice = 0; slice < slices; slice++)
        {
            foreach (Action issue in between[(slice * between.Length / slices)..((slice + 1) * between.Length / slices)]) issue();
            Pair[][] left = queries(slice);
            for (int key = 0; key < count; key += 16)
            {
                Pair[] right = k.LoadMatrices(at(key, slice));
                for (int m = 0; m < scores.Length; m++)
                {
                    k.AddMatrixProduct(format, scores[m], key / 2, left[m], right[0], right[1]);
                    k.AddMatrixProduct(format, scores[m], (key / 2) + 4, left[m], right[2], right[3]);
                }
            }
        }
    }

    /// <summary><c>O += P V</c>.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="format">Of the elements.</param>
    /// <param name="outputs">For each 16 rows, half as many registers as there are columns.</param>
    /// <param name="weights">For each 16 rows, and for each 16 keys: four registers.</param>
    /// <param name="values">The tile.</param>
    /// <param name="layout">How it lies.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="columns">How many there are; null for all that the tile has.</param>
    public static void AddWeightedValues(PtxKernel k, ElementFormat format, F32[][] outputs, Pair[][][] weights, Shared values, SharedRows layout, I32 lane, int? columns = null)
    {
        Shared mine = values + layout.LaneOffsetOfRows(lane);
        AddWeightedValues(k, format, outputs, weights, (key, column) => mine + ((key * layout.Stride) + (column * 2)), columns ?? layout.Dim);
    }

    /// <summary>The same with values of a box of more rows.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="format">Of the elements.</param>
    /// <param name="outputs">For each 16 rows, half as many registers as there are columns.</param>
    /// <param name="weights">For each 16 rows, and for each 16 keys: four registers.</param>
    /// <param name="values">The first of the values in the first box: a multiple of eight rows.</param>
    /// <param name="layout">Of the boxes.</param>
    /// <param name="lane">Of the warp.</param>
    public static void AddWeightedValues(PtxKernel k, ElementFormat format, F32[][] outputs, Pair[][][] weights, Shared values, BoxedRows layout, I32 lane)
    {
        Shared[] mine = BoxedRows.SlicesOf(values + BoxedRows.LaneOffsetOfRows(lane));
        AddWeightedValues(
            k, format, outputs, weights, (key, column) => BoxedRows.PlaceOf(mine, column / 16, key, layout.BoxBytes), layout.Dim);
    }

    private static void AddWeightedValues(PtxKernel k, ElementFormat format, F32[][] outputs, Pair[][][] weights, Func<int, int, Shared> place, int dim)
    {
        for (int slice = 0; slice < weights[0].Length; slice++)
        {
            for (int column = 0; column < dim; column += 16)
            {
                bool isHalf = column + 16 > dim;
                Shared at = place(slice * 16, column);
                Pair[] right = isHalf ? k.LoadTwoMatrices(at, transposed: true) : k.LoadMatrices(at, transposed: true);
                for (int m = 0; m < outputs.Length; m++)
                {
                    k.AddMatrixProduct(format, outputs[m], column / 2, weights[m][slice], right[0], right[1]);
                    if (!isHalf) k.AddMatrixProduct(format, outputs[m], (column / 2) + 4, weights[m][slice], right[2], right[3]);
                }
            }
        }
    }

    /// <summary>Sums of rows g and g + 8 of a left factor, over all its columns, in all lanes: a product with ones.</summary>
    /// <param name="k">The kernel.</param>
    /// <param name="format">Of the elements.</param>
    /// <param name="factors">For each 16 columns, four registers.</param>
    public static (F32 Row, F32 EightBelow) RowSums(PtxKernel k, ElementFormat format, Pair[][] factors)
    {
        F32[] sums = k.Registers<F32>("row_sum", 4);
        foreach (F32 sum in sums) sum.Set(0);
        Pair ones = Pair.In(k);
        ones.Set((I32)(format == ElementFormat.Float16 ? 0x3C003C00 : 0x3F803F80));
        foreach (Pair[] factor in factors) k.AddMatrixProduct(format, sums, 0, factor, ones, ones);
        return (sums[0], sums[2]);
    }

    /// <summary>Sums of 16 columns, rounded, are a left factor of a product over these columns: no element changes its lane.</summary>
    public static Pair[][] LeftFactors(ElementFormat format, F32[] sums)
    {
        var factors = new Pair[sums.Length / 8][];
        for (int slice = 0; slice < factors.Length; slice++) factors[slice] = [.. Enumerable.Range(0, 4).Select(_ => Pair.In(sums[0].Kernel!))];
        RoundInto(factors, format, sums);
        return factors;
    }

    /// <summary>The same, into registers that are there.</summary>
    public static void RoundInto(Pair[][] factors, ElementFormat format, F32[] sums)
    {
        for (int slice = 0; slice < factors.Length; slice++)
            for (int i = 0; i < 4; i++) factors[slice][i].SetRounded(format, sums[(8 * slice) + (2 * i)], sums[(8 * slice) + (2 * i) + 1]);
    }
}
