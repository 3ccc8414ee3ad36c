using System.Globalization;

namespace FusedAttention.Cuda.Ptx;

/// <summary>A factor of a product in shared memory: its matrix descriptor, of which the low word says where it begins and the high one how it lies.</summary>
/// <param name="low">Bits 0 to 13 the address in units of 16 bytes, from 16 on the first stride.</param>
/// <param name="high">The second stride, and the swizzle.</param>
internal sealed class MatrixDescriptor(I32 low, I32 high)
{
    /// <summary>The same matrix further on, by units of 16 bytes.</summary>
    public static MatrixDescriptor operator +(MatrixDescriptor a, I32 units) => new(a.Low + units, a.High);

    public I32 Low { get; } = low;

    public I32 High { get; } = high;

    /// <summary>In a register.</summary>
    public I64 ToI64() => I64.Of(Low, High);
}

/// <content>Matrix units of compute capability 9.0a: products of 64 rows by the four warps of a warpgroup, in the background (wgmma).</content>
/// <remarks>
/// <para>Warp w of the warpgroup has rows 16w to 16w + 15 of the sums. Its lane l, with g = l / 4 and q = l % 4, holds of n columns n / 2 registers: number i is row g + 8 ((i / 2) mod 2), column
/// 8 (i / 4) + 2q + (i mod 2). Sums of 16 columns, rounded, are a left factor: registers of a lane as for <c>mma.m16n8k16</c> (PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16").</para>
/// <para>Registers of a product are not touched between its issue and the wait for it; in front of a product, <see cref="FenceProducts"/> where others wrote them.</para>
/// </remarks>
internal sealed partial class PtxKernel
{
    /// <summary>What others wrote into registers of products, or what the same registers held of earlier ones, is there before the products that follow begin.</summary>
    public void FenceProducts() => Emit("wgmma.fence.sync.aligned");

    /// <summary>The products since the last commit are one group; there may be none.</summary>
    public void CommitProducts() => Emit("wgmma.commit_group.sync.aligned");

    /// <summary>Waits until at most so many of the latest groups are under way.</summary>
    public void WaitForProducts(int underWay) => Emit("wgmma.wait_group.sync.aligned", (I32)underWay);

    /// <summary><c>sums (+)= left right^T</c> over 16 elements, both factors in shared memory with these elements side by side.</summary>
    /// <param name="format">Of the factors, 16 bits.</param>
    /// <param name="sums">Half as many registers as the right factor has rows.</param>
    /// <param name="left">64 rows.</param>
    /// <param name="right">Twice as many rows as there are registers.</param>
    /// <param name="adds">False: what the sums hold does not count.</param>
    public void IssueProduct(ElementFormat format, F32[] sums, MatrixDescriptor left, MatrixDescriptor right, bool adds) => IssueProduct(format, sums, left, right, (I32)(adds ? 1 : 0));

    /// <inheritdoc cref="IssueProduct(ElementFormat, F32[], MatrixDescriptor, MatrixDescriptor, bool)"/>
    public void IssueProduct(ElementFormat format, F32[] sums, MatrixDescriptor left, MatrixDescriptor right, Predicate adds) => IssueProduct(format, sums, left, right, (Value)adds.InRegister());

    /// <summary><c>sums += left right</c> over 16 elements: the left factor in registers, the right one 16 rows of shared memory.</summary>
    /// <param name="format">Of the factors, 16 bits.</param>
    /// <param name="sums">Half as many registers as the right factor has columns.</param>
    /// <param name="left">Four registers.</param>
    /// <param name="right">16 rows, each with its columns side by side.</param>
    public void IssueProduct(ElementFormat format, F32[] sums, Pair[] left, MatrixDescriptor right) =>
        Emit(ProductOf(format, sums), new Vector(sums), new Vector(left), right.ToI64(), (I32)1, (I32)1, (I32)1, (I32)1);

    /// <summary>Lets the warpgroup's threads have so many registers from here on, where they had more.</summary>
    public void LowerRegisters(int registers) => Emit("setmaxnreg.dec.sync.aligned.u32", (I32)registers);

    /// <summary>Lets the warpgroup's threads have so many registers from here on, where they had fewer; waits until there are as many.</summary>
    public void RaiseRegisters(int registers) => Emit("setmaxnreg.inc.sync.aligned.u32", (I32)registers);

    /// <summary>Four 8 x 8 matrices of 16-bit elements, as products leave them in registers, to the rows whose addresses lanes 8i to 8i + 7 give.</summary>
    public void StoreMatrices(Shared to, params Pair[] matrices) => EmitText("stmatrix.sync.aligned.m8n8.x4.shared.b16", to, new Vector(matrices));

    /// <summary>Waits for as many threads, a whole number of warps, that wait for or arrive at the barrier.</summary>
    public void Barrier(I32 id, int threads) => Emit("bar.sync", id, (I32)threads);

    /// <summary>Arrives at such a barrier and does not wait.</summary>
    public void ArriveAt(I32 id, int threads) => Emit("bar.arrive", id, (I32)threads);

    /// <summary>Waits for as many threads; whether it holds in any of them.</summary>
    public Predicate BarrierAny(I32 id, int threads, Predicate condition)
    {
        Predicate result = Predicate.In(this);
        Emit("bar.red.or.pred", result, id, (I32)threads, condition.InRegister());
        return result;
    }

    private void IssueProduct(ElementFormat format, F32[] sums, MatrixDescriptor left, MatrixDescriptor right, Value adds) =>
        Emit(ProductOf(format, sums), new Vector(sums), left.ToI64(), right.ToI64(), adds, (I32)1, (I32)1, (I32)0, (I32)0);

    private static string ProductOf(ElementFormat format, F32[] sums)
    {
        string type = format == ElementFormat.Float16 ? "f16" : "bf16";
        return string.Create(CultureInfo.InvariantCulture, $"wgmma.mma_async.sync.aligned.m64n{sums.Length * 2}k16.f32.{type}.{type}");
    }
}
