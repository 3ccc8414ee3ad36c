using System.Runtime.Intrinsics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>
/// Asynchronous products of a warpgroup, m64nNk16: each of its warps does 16 rows. <see cref="Instruction.Rows"/> has the rows of the sums, Count of them, and then, where the left factor is in registers, its four;
/// A is the row of the left factor's descriptor or -1, B that of the right one's; C a predicate, or -1, and then Offset says whether sums are added to. Number has bit 0 where the left factor is transposed, bit 1
/// where the right one is, bit 2 for bfloat16.
/// </summary>
internal static unsafe class WarpgroupOperations
{
    public static readonly Handler Multiply = new(&RunMultiply), Commit = new(&RunCommit), Wait = new(&RunWait), Fence = new(&RunFence);

    private const int Depth = 16;

    /// <summary>Computes a warp's rows of a product into its sums.</summary>
    public static void Compute(Warp warp, Instruction* i, in Warp.Product product, float* sums)
    {
        if ((i->Number & 4) != 0) Compute<BrainFloat16>(warp, i, product, sums);
        else Compute<Binary16>(warp, i, product, sums);
    }

    private static void Compute<T>(Warp warp, Instruction* i, in Warp.Product product, float* sums)
        where T : struct, IHalf
    {
        float* left = stackalloc float[4 * 64], right = stackalloc float[Depth * 8];
        if (i->A < 0) for (int register = 0; register < 4; register++) MatrixOperations.Widen<T>(warp.Rows + i->Rows[i->Count + register], left + (64 * register));
        else LoadLeft<T>(warp, i, new(product.Left, (i->Number & 1) != 0), left);

        var descriptor = new MatrixDescriptor(product.Right, (i->Number & 2) != 0);
        if (!product.Adds) new Span<float>(sums, i->Count * Lanes.Count).Clear();
        for (int block = 0; block < i->Count / 4; block++)
        {
            LoadRight<T>(warp, i, descriptor, (i->Number & 2) != 0, block, right);
            float* c = sums + (block * 4 * Lanes.Count);
            MatrixOperations.MultiplyAdd(left, right, c, c + 32, c + 64, c + 96, c, c + 32, c + 64, c + 96);
        }
    }

    /// <summary>16 rows of the left factor, as registers of mma.m16n8k16 would have them.</summary>
    private static void LoadLeft<T>(Warp warp, Instruction* i, MatrixDescriptor descriptor, float* left)
        where T : struct, IHalf
    {
        Check(warp, i, descriptor);
        ushort* elements = stackalloc ushort[16 * Depth];
        bool isTransposed = (i->Number & 1) != 0;
        int first = warp.Number % 4 * 16;
        for (int n = 0; n < 16; n++)
        {
            for (int chunk = 0; chunk < 2; chunk++)
            {
                uint address = isTransposed ? descriptor.AddressOf(n, (first / 8) + chunk) : descriptor.AddressOf(first + n, chunk);
                var from = (ushort*)warp.Block.Shared.ReadAsynchronously(warp, i, n, address, mayBeUnwritten: true);
                for (int e = 0; e < 8; e++) elements[isTransposed ? (((8 * chunk) + e) * Depth) + n : (n * Depth) + (8 * chunk) + e] = from[e];
            }
        }

        uint* halves = stackalloc uint[4 * 64];
        for (int register = 0; register < 4; register++)
        {
            for (int half = 0; half < 2; half++)
            {
                for (int lane = 0; lane < Lanes.Count; lane++)
                    halves[(64 * register) + (32 * half) + lane] = elements[(((lane >> 2) + (8 * (register & 1))) * Depth) + (8 * (register >> 1)) + (2 * (lane & 3)) + half];
            }
        }

        for (int v = 0; v < 16; v++) ((Vector512<float>*)left)[v] = T.Widen(((Vector512<uint>*)halves)[v]);
    }

    /// <summary>Eight columns of the right factor, in the order of <see cref="MatrixOperations.PlaceOf"/>.</summary>
    private static void LoadRight<T>(Warp warp, Instruction* i, MatrixDescriptor descriptor, bool isTransposed, int block, float* right)
        where T : struct, IHalf
    {
        if (block == 0) Check(warp, i, descriptor);
        uint* halves = stackalloc uint[Depth * 8];
        if (isTransposed)
        {
            for (int k = 0; k < Depth; k++)
            {
                var from = (ushort*)warp.Block.Shared.ReadAsynchronously(warp, i, k, descriptor.AddressOf(k, block), mayBeUnwritten: true);
                for (int n = 0; n < 8; n++) halves[(8 * k) + MatrixOperations.PlaceOf(n)] = from[n];
            }
        }
        else
        {
            for (int n = 0; n < 8; n++)
            {
                for (int chunk = 0; chunk < 2; chunk++)
                {
                    var from = (ushort*)warp.Block.Shared.ReadAsynchronously(warp, i, n, descriptor.AddressOf((8 * block) + n, chunk), mayBeUnwritten: true);
                    for (int e = 0; e < 8; e++) halves[(8 * ((8 * chunk) + e)) + MatrixOperations.PlaceOf(n)] = from[e];
                }
            }
        }

        for (int v = 0; v < 8; v++) ((Vector512<float>*)right)[v] = T.Widen(((Vector512<uint>*)halves)[v]);
    }

    private static void Check(Warp warp, Instruction* i, MatrixDescriptor descriptor)
    {
        if (descriptor.Refusal is { } refusal) throw warp.Fail(i, -1, $"has {refusal}, which the emulator does not know");
    }

    private static void RunMultiply(Warp warp, Instruction* i, uint mask)
    {
        warp.AssertTogether(i, mask);
        ulong left = i->A < 0 ? 0 : Uniform(warp, i, i->A), right = Uniform(warp, i, i->B);
        bool adds = i->Offset != 0;
        if (i->C >= 0)
        {
            uint predicate = warp.Predicates[i->C];
            if (predicate != 0 && predicate != Lanes.All) throw warp.Fail(i, -1, "adds to its sums in some lanes only");
            adds = predicate != 0;
        }

        warp.Issue(i, left, right, adds);
    }

    private static ulong Uniform(Warp warp, Instruction* i, int row)
    {
        ulong* lanes = warp.WideRow(row);
        for (int lane = 1; lane < Lanes.Count; lane++)
            if (lanes[lane] != lanes[0]) throw warp.Fail(i, lane, $"has another descriptor than lane 0, 0x{lanes[lane]:x} and 0x{lanes[0]:x}");
        return lanes[0];
    }

    private static void RunCommit(Warp warp, Instruction* i, uint mask)
    {
        warp.AssertTogether(i, mask);
        warp.CommitProducts();
    }

    private static void RunWait(Warp warp, Instruction* i, uint mask)
    {
        warp.AssertTogether(i, mask);
        warp.WaitForProducts(i->Number);
    }

    private static void RunFence(Warp warp, Instruction* i, uint mask) => warp.AssertTogether(i, mask);
}
