namespace FusedAttention.Cuda.Ptx;

/// <content>Matrix units: 16 x 8 products over 16 elements, by a warp.</content>
/// <remarks>
/// Lane l has g = l / 4 and q = l % 4. Of a 16 x 16 left factor it holds a0 = (row g, columns 2q, 2q + 1), a1 = (row g + 8, the same), a2 = (row g, columns 2q + 8, 2q + 9), a3 = (row g + 8, those); of a
/// 16 x 8 right factor b0 = (rows 2q, 2q + 1, column g), b1 = (rows 2q + 8, 2q + 9, column g); of a 16 x 8 sum c0, c1 = (row g, columns 2q, 2q + 1), c2, c3 = (row g + 8, those). So two sums side by side
/// become a left factor without moving between lanes (PTX ISA, "Matrix Fragments for mma.m16n8k16").
/// </remarks>
internal sealed partial class PtxKernel
{
    /// <summary>Four 8 x 8 matrices of 16-bit elements: lanes 8i to 8i + 7 give the addresses of the rows of the i-th, and lane l gets elements 2q, 2q + 1 of row g of each.</summary>
    /// <param name="from">A multiple of 16.</param>
    /// <param name="transposed">Whether lane l gets row 2q and 2q + 1 of column g instead.</param>
    public Pair[] LoadMatrices(Shared from, bool transposed = false)
    {
        Pair[] results = [Pair.In(this), Pair.In(this), Pair.In(this), Pair.In(this)];
        EmitText($"ldmatrix.sync.aligned.m8n8.x4{(transposed ? ".trans" : string.Empty)}.shared.b16", new Vector(results), from);
        return results;
    }

    /// <summary>Two of them, by the addresses of lanes 0 to 15.</summary>
    public Pair[] LoadTwoMatrices(Shared from, bool transposed = false)
    {
        Pair[] results = [Pair.In(this), Pair.In(this)];
        EmitText($"ldmatrix.sync.aligned.m8n8.x2{(transposed ? ".trans" : string.Empty)}.shared.b16", new Vector(results), from);
        return results;
    }

    /// <summary><c>sums += left right</c>, in 32-bit floats.</summary>
    /// <param name="format">Of the factors, 16 bits.</param>
    /// <param name="sums">Four registers from <paramref name="first"/> on.</param>
    /// <param name="first">Of the four.</param>
    /// <param name="left">Four registers.</param>
    /// <param name="right0">Rows 0 to 7 of the right factor.</param>
    /// <param name="right1">Rows 8 to 15.</param>
    public void AddMatrixProduct(ElementFormat format, F32[] sums, int first, Pair[] left, Pair right0, Pair right1)
    {
        string type = format == ElementFormat.Float16 ? "f16" : "bf16";
        var sum = new Vector(sums[first], sums[first + 1], sums[first + 2], sums[first + 3]);
        Emit($"mma.sync.aligned.m16n8k16.row.col.f32.{type}.{type}.f32", sum, new Vector(left), new Vector(right0, right1), sum);
    }
}
