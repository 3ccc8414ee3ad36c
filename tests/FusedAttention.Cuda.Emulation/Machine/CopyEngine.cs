using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Moves boxes of tensors and runs of bytes for a block (TMA), at a time of its own choice: what was queued is neither there nor gone until a barrier or a wait says so.</summary>
internal sealed unsafe class CopyEngine(BlockState block) : Agent(SharedMemory.CopyEngine)
{
    private const int Chunk = 16;

    private readonly List<Load> _loads = [];
    private Warp? _warp;

    /// <summary>A load that is under way.</summary>
    /// <param name="Warp">That began it.</param>
    /// <param name="Instruction">That did.</param>
    /// <param name="Lane">Of the warp.</param>
    /// <param name="Transfer">What is moved; null: a lane's own copies.</param>
    /// <param name="Copies">Those.</param>
    /// <param name="Barrier">That counts its bytes, or the end of the lane's copies as an arrival.</param>
    private sealed record Load(Warp Warp, int Instruction, int Lane, Transfer? Transfer, Warp.Copy[] Copies, ArrivalBarrier Barrier);

    public bool HasWork => _loads.Count > 0;

    public void Reset(uint clock)
    {
        Begin(clock);
        _loads.Clear();
    }

    /// <summary>Queues a load: the places it writes are nobody's until it has ended.</summary>
    public void Queue(Warp warp, Instruction* i, int lane, Transfer transfer, ArrivalBarrier barrier)
    {
        for (int at = 0; at < transfer.Bytes; at += Chunk) block.Shared.BeginCopy(warp, i, lane, transfer.Shared + (uint)at, Chunk);
        warp.Release(Seen);
        _loads.Add(new(warp, i->Index, lane, transfer, [], barrier));
    }

    /// <summary>Queues the end of copies that a lane has begun, and its arrival behind them.</summary>
    public void QueueArrival(Warp warp, Instruction* i, int lane, Warp.Copy[] copies, ArrivalBarrier barrier)
    {
        warp.Release(Seen);
        _loads.Add(new(warp, i->Index, lane, null, copies, barrier));
    }

    /// <summary>Ends one of the loads.</summary>
    public void EndOne(Random? random)
    {
        int chosen = random?.Next(_loads.Count) ?? 0;
        Load load = _loads[chosen];
        _loads.RemoveAt(chosen);
        _warp = load.Warp;
        Instruction* i = block.Launch.Program.Code + load.Instruction;
        block.Events++;
        if (load.Transfer is null)
        {
            foreach (Warp.Copy copy in load.Copies) load.Warp.End(copy, this);
            if (load.Barrier.Arrive(this, arrivals: 1, expectedBytes: 0) is { } failure) throw Fail(i, load.Lane, failure);
            return;
        }

        byte* chunk = stackalloc byte[Chunk];
        for (int at = 0; at < load.Transfer.Bytes; at += Chunk)
        {
            load.Transfer.Read(load.Warp, i, load.Lane, at, chunk);
            byte* to = block.Shared.EndCopy(this, i, load.Lane, load.Transfer.SharedAt(at), Chunk);
            Buffer.MemoryCopy(chunk, to, Chunk, Chunk);
        }

        load.Barrier.Complete(this, load.Transfer.Bytes);
    }

    public override CudaEmulationException Fail(Instruction* i, int lane, string what) => _warp!.Fail(i, lane, what + " (a copy that it has begun)");
}
