using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>What a barrier does with the predicates of those who come.</summary>
internal enum BarrierGathering
{
    None,
    Any,
    All,
    Count,
}

/// <summary>Barriers of a block and of a warp. <see cref="Instruction.A"/> is the row of the barrier's number, <see cref="Instruction.B"/> that of the number of threads or -1, <see cref="Instruction.C"/> a predicate.</summary>
internal static unsafe class BarrierOperations
{
    public static readonly Handler Sync = new(&RunSync), Arrive = new(&RunArrive), WarpSync = new(&RunWarpSync), Fence = new(&RunNothing);

    /// <summary>Puts into the warp what the barrier has gathered.</summary>
    public static void Take(Warp warp, Instruction* i, NamedBarrier barrier)
    {
        switch ((BarrierGathering)i->Number)
        {
            case BarrierGathering.Any: PredicateOperations.Write(warp, i->D, warp.Live, barrier.Any ? Lanes.All : 0); break;
            case BarrierGathering.All: PredicateOperations.Write(warp, i->D, warp.Live, barrier.All ? Lanes.All : 0); break;
            case BarrierGathering.Count: new Span<int>(warp.Row(i->D), Lanes.Count).Fill(barrier.Holding); break;
        }
    }

    private static void RunSync(Warp warp, Instruction* i, uint mask) => Arrived(warp, i, mask, waits: true);

    private static void RunArrive(Warp warp, Instruction* i, uint mask) => Arrived(warp, i, mask, waits: false);

    private static void Arrived(Warp warp, Instruction* i, uint mask, bool waits)
    {
        warp.AssertTogether(i, mask);
        uint number = Uniform(warp, i, mask, i->A, "number of a barrier");
        uint threads = i->B >= 0 ? Uniform(warp, i, mask, i->B, "number of threads") : (uint)((warp.Block.Launch.Threads + Lanes.Count - 1) / Lanes.Count * Lanes.Count);
        if (number > 15) throw warp.Fail(i, -1, $"names barrier {number} of 16");
        if (threads == 0 || threads % Lanes.Count != 0) throw warp.Fail(i, -1, $"waits for {threads} threads, which are no warps");
        uint holds = i->Number == (int)BarrierGathering.None ? 0 : (warp.Predicates[i->C] ^ (uint)i->Offset) & mask;
        warp.BarrierInstruction = i;
        if (warp.Block.Barrier((int)number).Arrive(warp, (int)threads, waits, holds) is { } failure) throw warp.Fail(i, -1, failure);
    }

    private static uint Uniform(Warp warp, Instruction* i, uint mask, int row, string what)
    {
        uint* values = warp.Row(row);
        uint value = values[System.Numerics.BitOperations.TrailingZeroCount(mask)];
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0 && values[lane] != value) throw warp.Fail(i, lane, $"has another {what} than other lanes, {values[lane]} and {value}");
        return value;
    }

    private static void RunWarpSync(Warp warp, Instruction* i, uint mask)
    {
        uint named = Uniform(warp, i, mask, i->A, "mask of lanes");
        if ((named & ~mask) != 0) throw warp.Fail(i, -1, $"waits for lanes 0x{named:x8}, of which only 0x{mask:x8} come");
        warp.Step();
    }

    private static void RunNothing(Warp warp, Instruction* i, uint mask)
    {
    }
}
