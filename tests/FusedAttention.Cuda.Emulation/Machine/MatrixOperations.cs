using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Matrices of a warp, by the fragment layouts of the PTX ISA (sections "Matrix Fragments for mma.m16n8k16" and "ldmatrix").</summary>
internal static unsafe class MatrixOperations
{
    public static readonly Handler Load = new(&RunLoad), LoadTransposed = new(&RunLoadTransposed), Store = new(&RunStore), StoreTransposed = new(&RunStoreTransposed);

    public static Handler MultiplyAdd<T>()
        where T : struct, IHalf => new(&RunMultiplyAdd<T>);

    /// <summary>Rows of 8 elements of the matrices, in order: lane 8 m + r has the address of row r of matrix m.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ReadRows(Warp warp, Instruction* i, uint mask, ushort* elements)
    {
        warp.AssertTogether(i, mask);
        uint* addresses = warp.Row(i->A);
        for (int lane = 0; lane < 8 * i->Count; lane++)
        {
            byte* from = warp.Block.Shared.Read(warp, i, lane, addresses[lane] + (uint)i->Offset, 16);
            ((Vector128<ushort>*)elements)[lane] = *(Vector128<ushort>*)from;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunLoad(Warp warp, Instruction* i, uint mask)
    {
        ushort* elements = stackalloc ushort[4 * 64];
        ReadRows(warp, i, mask, elements);

        // Lane 4 r + q has elements 2 q and 2 q + 1 of row r: the matrix as it lies in memory.
        for (int m = 0; m < i->Count; m++) Buffer.MemoryCopy(elements + (64 * m), warp.Rows + i->Rows[m], 128, 128);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunLoadTransposed(Warp warp, Instruction* i, uint mask)
    {
        ushort* elements = stackalloc ushort[4 * 64];
        ReadRows(warp, i, mask, elements);
        for (int m = 0; m < i->Count; m++)
        {
            ushort* matrix = elements + (64 * m);
            ushort* to = (ushort*)(warp.Rows + i->Rows[m]);
            for (int row = 0; row < 8; row++)
                for (int column = 0; column < 8; column++) to[(row * 8) + column] = matrix[(column * 8) + row];
        }
    }

    private static void RunStore(Warp warp, Instruction* i, uint mask) => StoreRows(warp, i, mask, isTransposed: false);

    private static void RunStoreTransposed(Warp warp, Instruction* i, uint mask) => StoreRows(warp, i, mask, isTransposed: true);

    private static void StoreRows(Warp warp, Instruction* i, uint mask, bool isTransposed)
    {
        warp.AssertTogether(i, mask);
        uint* addresses = warp.Row(i->A);
        for (int lane = 0; lane < 8 * i->Count; lane++)
        {
            var to = (ushort*)warp.Block.Shared.Write(warp, i, lane, addresses[lane] + (uint)i->Offset, 16);
            var matrix = (ushort*)(warp.Rows + i->Rows[lane / 8]);
            for (int column = 0; column < 8; column++) to[column] = isTransposed ? matrix[(column * 8) + (lane % 8)] : matrix[(lane % 8 * 8) + column];
        }
    }

    /// <summary>D = A B + C: rows of D, of A, of B, of C in this order. Sums are floats, one chain of multiply-adds over the shared dimension; the hardware's own order and width are not known.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunMultiplyAdd<T>(Warp warp, Instruction* i, uint mask)
        where T : struct, IHalf
    {
        warp.AssertTogether(i, mask);
        int* rows = i->Rows;
        float* a = stackalloc float[4 * 64], b = stackalloc float[16 * 8];
        for (int register = 0; register < 4; register++) Widen<T>(warp.Rows + rows[4 + register], a + (64 * register));
        float* halves = stackalloc float[64];
        for (int register = 0; register < 2; register++)
        {
            // Lane 4 n + q has rows 2 q and 2 q + 1 (8 on in the second register) of column n.
            Widen<T>(warp.Rows + rows[8 + register], halves);
            for (int half = 0; half < 2; half++)
                for (int q = 0; q < 4; q++)
                    for (int n = 0; n < 8; n++) b[(((8 * register) + (2 * q) + half) * 8) + PlaceOf(n)] = halves[(32 * half) + (4 * n) + q];
        }

        float* c0 = (float*)(warp.Rows + rows[10]), c1 = (float*)(warp.Rows + rows[11]), c2 = (float*)(warp.Rows + rows[12]), c3 = (float*)(warp.Rows + rows[13]);
        float* d0 = (float*)(warp.Rows + rows[0]), d1 = (float*)(warp.Rows + rows[1]), d2 = (float*)(warp.Rows + rows[2]), d3 = (float*)(warp.Rows + rows[3]);
        MultiplyAdd(a, b, c0, c1, c2, c3, d0, d1, d2, d3);
    }

    /// <summary>Where column n of eight lies in a row of a right factor: even columns first, as a row of four lanes of a sum has them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int PlaceOf(int n) => (n >> 1) | ((n & 1) << 2);

    /// <summary>A register of pairs as floats: the low halves of all lanes, then the high ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Widen<T>(byte* row, float* to)
        where T : struct, IHalf
    {
        for (int half = 0; half < 2; half++)
        {
            Vector512<uint> pairs = Lanes.Half(row, half);
            ((Vector512<float>*)to)[half] = T.Widen(pairs & Vector512.Create(0xFFFFu));
            ((Vector512<float>*)to)[2 + half] = T.Widen(pairs >> 16);
        }
    }

    /// <summary>16 x 8 sums over 16 elements.</summary>
    /// <param name="a">The left factor's four registers, as <see cref="Widen"/> leaves them.</param>
    /// <param name="b">The right factor's 16 rows of 8 columns, in the order of <see cref="PlaceOf"/>.</param>
    /// <param name="c0">Of each lane 4 g + q: row g, column 2 q.</param>
    /// <param name="c1">Row g, column 2 q + 1.</param>
    /// <param name="c2">Row g + 8, column 2 q.</param>
    /// <param name="c3">Row g + 8, column 2 q + 1.</param>
    /// <param name="d0">Results, like c.</param>
    /// <param name="d1">Results, like c.</param>
    /// <param name="d2">Results, like c.</param>
    /// <param name="d3">Results, like c.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void MultiplyAdd(float* a, float* b, float* c0, float* c1, float* c2, float* c3, float* d0, float* d1, float* d2, float* d3)
    {
        for (int g = 0; g < 8; g += 2)
        {
            int lane = 4 * g;
            Vector256<float> top = Vector256.Create(*(Vector128<float>*)(c0 + lane), *(Vector128<float>*)(c1 + lane));
            Vector256<float> bottom = Vector256.Create(*(Vector128<float>*)(c2 + lane), *(Vector128<float>*)(c3 + lane));
            Vector256<float> nextTop = Vector256.Create(*(Vector128<float>*)(c0 + lane + 4), *(Vector128<float>*)(c1 + lane + 4));
            Vector256<float> nextBottom = Vector256.Create(*(Vector128<float>*)(c2 + lane + 4), *(Vector128<float>*)(c3 + lane + 4));
            for (int k = 0; k < 16; k++)
            {
                // Column k of the left factor: register 2 (k / 8), or one more for the lower rows; half k % 2; lane 4 g + k / 2 % 4.
                float* column = a + (128 * (k >> 3)) + (32 * (k & 1)) + lane + (k >> 1 & 3);
                Vector256<float> row = *(Vector256<float>*)(b + (8 * k));
                top = Vector256.MultiplyAddEstimate(Vector256.Create(column[0]), row, top);
                bottom = Vector256.MultiplyAddEstimate(Vector256.Create(column[64]), row, bottom);
                nextTop = Vector256.MultiplyAddEstimate(Vector256.Create(column[4]), row, nextTop);
                nextBottom = Vector256.MultiplyAddEstimate(Vector256.Create(column[68]), row, nextBottom);
            }

            Leave(top, d0 + lane, d1 + lane);
            Leave(bottom, d2 + lane, d3 + lane);
            Leave(nextTop, d0 + lane + 4, d1 + lane + 4);
            Leave(nextBottom, d2 + lane + 4, d3 + lane + 4);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Leave(Vector256<float> sums, float* even, float* odd)
    {
        sums = Vector256.ConditionalSelect(Vector256.Equals(sums, sums), sums, Vector256.Create(Floats.NotANumber).AsSingle());
        *(Vector128<float>*)even = sums.GetLower();
        *(Vector128<float>*)odd = sums.GetUpper();
    }
}
