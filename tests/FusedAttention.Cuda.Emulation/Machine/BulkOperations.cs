using System.Numerics;
using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>
/// Copies by the copy engine. A is the row of the shared address (Offset is added), B that of the tensor map or of the device address, C that of the barrier's address (Number is added);
/// <see cref="Instruction.Rows"/> has the rows of the coordinates, Count of them, or of the number of bytes where Count is 0.
/// </summary>
internal static unsafe class BulkOperations
{
    public static readonly Handler Load = new(&RunLoad), Store = new(&RunStore), Commit = new(&RunCommit), Wait = new(&RunWait), FenceProxy = new(&RunFenceProxy);

    private static void RunLoad(Warp warp, Instruction* i, uint mask)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            uint barrier = warp.Row(i->C)[lane] + (uint)i->Number;
            warp.Block.Engine.Queue(warp, i, lane, TransferOf(warp, i, lane), warp.Block.ArrivalsAt(warp, i, lane, barrier));
        }
    }

    private static void RunStore(Warp warp, Instruction* i, uint mask)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            warp.BeginStore(i, lane, TransferOf(warp, i, lane));
        }
    }

    private static void RunCommit(Warp warp, Instruction* i, uint mask) => warp.CommitStores(mask);

    private static void RunWait(Warp warp, Instruction* i, uint mask) => warp.WaitForStores(mask, i->Number);

    private static void RunFenceProxy(Warp warp, Instruction* i, uint mask) => warp.FenceProxy();

    private static Transfer TransferOf(Warp warp, Instruction* i, int lane)
    {
        uint shared = warp.Row(i->A)[lane] + (uint)i->Offset;
        if (i->Count == 0)
        {
            uint bytes = warp.Row(i->Rows[0])[lane];
            if (bytes == 0 || bytes % 16 != 0 || shared % 16 != 0) throw warp.Fail(i, lane, $"moves {bytes} bytes at 0x{shared:x} of shared memory: multiples of 16 are moved");
            return new RunTransfer(shared, (int)bytes, warp.WideRow(i->B)[lane]);
        }

        ulong address = warp.WideRow(i->B)[lane];
        if (address % 64 != 0) throw warp.Fail(i, lane, $"names a tensor map at 0x{address:x}, which is no multiple of 64");
        TensorMapImage map = default;
        for (int at = 0; at < TensorMapImage.MapBytes; at += 16)
            Buffer.MemoryCopy(warp.AnyRead(i, lane, address + (ulong)at, 16), (byte*)&map + at, 16, 16);
        if (!map.IsMap) throw warp.Fail(i, lane, "names a tensor map that is none");
        if (map.Rank != i->Count) throw warp.Fail(i, lane, $"has {i->Count} coordinates for a tensor of {map.Rank} dimensions");
        if (map.Refusal() is { } refusal) throw warp.Fail(i, lane, $"names a tensor map that the driver would refuse: {refusal}");

        // Swizzled boxes too: the pattern is one of the address, and a box that begins elsewhere than at its repeat begins inside of the pattern (CUDA Programming Guide, "Tensor Memory Access", swizzle).
        const uint alignment = 128;
        if (shared % alignment != 0) throw warp.Fail(i, lane, $"has a box at 0x{shared:x} of shared memory, which is no multiple of {alignment}");
        int[] start = new int[map.Rank];
        for (int d = 0; d < start.Length; d++) start[d] = (int)warp.Row(i->Rows[d])[lane];
        return new BoxTransfer(shared, map, start);
    }
}
