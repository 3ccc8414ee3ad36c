using FusedAttention.Cuda.Emulation.Memory;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>A barrier in shared memory that counts arrivals, and bytes that copies bring, phase by phase (mbarrier).</summary>
/// <param name="count">Arrivals that end a phase.</param>
internal sealed class ArrivalBarrier(int count)
{
    private readonly uint[] _gathering = new uint[SharedMemory.MostAgents];
    private uint[] _released = new uint[SharedMemory.MostAgents];
    private readonly int _count = count;
    private int _pending = count;
    private long _bytes;

    /// <summary>Phases that have ended.</summary>
    public int Phase { get; private set; }

    /// <summary>Arrivals, after whatever else the agent has done. Bytes that are expected count before they arrive.</summary>
    /// <returns>What is wrong; null where nothing is.</returns>
    public string? Arrive(Agent agent, int arrivals, long expectedBytes)
    {
        _bytes += expectedBytes;
        agent.Release(_gathering);
        if (arrivals > _pending) return $"arrives {arrivals} times at a barrier that waits for {_pending} more in this phase, its number {Phase}";
        _pending -= arrivals;
        EndPhase();
        return null;
    }

    /// <summary>Bytes have come, with which the engine releases what it has written.</summary>
    public void Complete(Agent engine, long bytes)
    {
        engine.Release(_gathering);
        _bytes -= bytes;
        EndPhase();
    }

    /// <summary>Whether the phase of a parity has ended; then the agent sees what was released in it.</summary>
    public bool HasEnded(Agent agent, uint parity)
    {
        if ((Phase & 1) == (int)(parity & 1)) return false;
        agent.Acquire(_released);
        return true;
    }

    public override string ToString() => $"phase {Phase}, {_pending} of {_count} arrivals and {_bytes} bytes missing";

    private void EndPhase()
    {
        if (_pending != 0 || _bytes != 0) return;
        _released = [.. _gathering];
        _pending = _count;
        Phase++;
    }
}
