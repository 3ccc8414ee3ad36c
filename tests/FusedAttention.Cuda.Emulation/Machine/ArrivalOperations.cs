using System.Numerics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Instructions on barriers in shared memory: A is the row of the address, B that of a count, of bytes, or of a parity (-1 where there is none).</summary>
internal static unsafe class ArrivalOperations
{
    public static readonly Handler Initialize = new(&RunInitialize), Arrive = new(&RunArrive), ArriveExpecting = new(&RunArriveExpecting), Expect = new(&RunExpect), HasEnded = new(&RunHasEnded), Invalidate = new(&RunInvalidate),
        ArriveBehindCopies = new(&RunArriveBehindCopies);

    private static void RunInitialize(Warp warp, Instruction* i, uint mask)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            uint address = Address(warp, i, lane);
            *(ulong*)warp.Block.Shared.Write(warp, i, lane, address, sizeof(ulong)) = 0;
            uint count = warp.Row(i->B)[lane];
            if (count is 0 or > 0xFFFFF) throw warp.Fail(i, lane, $"makes a barrier of {count} arrivals");
            warp.Block.Arrivals[address] = new((int)count);
        }
    }

    private static void RunInvalidate(Warp warp, Instruction* i, uint mask)
    {
        int lane = BitOperations.TrailingZeroCount(mask);
        if (!warp.Block.Arrivals.Remove(Address(warp, i, lane))) throw warp.Fail(i, lane, "ends a barrier that is not there");
    }

    private static void RunArrive(Warp warp, Instruction* i, uint mask) => Arrived(warp, i, mask, arrives: true, expects: false);

    private static void RunArriveExpecting(Warp warp, Instruction* i, uint mask) => Arrived(warp, i, mask, arrives: true, expects: true);

    private static void RunExpect(Warp warp, Instruction* i, uint mask) => Arrived(warp, i, mask, arrives: false, expects: true);

    private static void Arrived(Warp warp, Instruction* i, uint mask, bool arrives, bool expects)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            uint operand = i->B < 0 ? 1 : warp.Row(i->B)[lane];
            string? failure = Find(warp, i, lane).Arrive(warp, !arrives ? 0 : expects ? 1 : (int)operand, expects ? operand : 0);
            if (failure is not null) throw warp.Fail(i, lane, failure);
        }

        warp.Block.Events++;
    }

    /// <summary>Each lane's copies so far are the engine's to end, which then arrives in its place.</summary>
    private static void RunArriveBehindCopies(Warp warp, Instruction* i, uint mask)
    {
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            warp.Block.Engine.QueueArrival(warp, i, lane, warp.TakeCopies(i, lane), Find(warp, i, lane));
        }
    }

    /// <summary>The lanes whose phase has not ended ask again: it is other warps' turn.</summary>
    private static void RunHasEnded(Warp warp, Instruction* i, uint mask)
    {
        uint ended = 0;
        for (uint lanes = mask; lanes != 0; lanes &= lanes - 1)
        {
            int lane = BitOperations.TrailingZeroCount(lanes);
            if (Find(warp, i, lane).HasEnded(warp, warp.Row(i->B)[lane])) ended |= 1u << lane;
        }

        PredicateOperations.Write(warp, i->D, mask, ended);
        if (ended != mask) warp.Poll();
    }

    private static uint Address(Warp warp, Instruction* i, int lane) => warp.Row(i->A)[lane] + (uint)i->Offset;

    private static ArrivalBarrier Find(Warp warp, Instruction* i, int lane) => warp.Block.ArrivalsAt(warp, i, lane, Address(warp, i, lane));
}
