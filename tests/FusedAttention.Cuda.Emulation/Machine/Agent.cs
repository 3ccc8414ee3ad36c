using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Whoever reads and writes the memory of a block: a warp, or the engine that copies tiles.</summary>
/// <param name="number">In the block.</param>
internal abstract unsafe class Agent(int number)
{
    public int Number { get; } = number;

    /// <summary>Steps whenever the agent releases something to others, or orders its own lanes.</summary>
    public uint Clock { get; set; } = 1;

    /// <summary>The clocks of the others up to which everything has happened before what this agent does now.</summary>
    public uint[] Seen { get; } = new uint[SharedMemory.MostAgents];

    /// <summary>A writer's record that was found to be ordered before this agent, for the next word that has it.</summary>
    public ulong LastOrdered { get; set; }

    /// <summary>An error of an instruction in a lane: -1 for the whole warp.</summary>
    public abstract CudaEmulationException Fail(Instruction* i, int lane, string what);

    public string NameOf(int agent) => agent == SharedMemory.CopyEngine ? "a copy of a tile" : $"warp {agent}";

    /// <summary>Adds what this agent has done and seen so far to some clocks, and steps on.</summary>
    public void Release(uint[] clocks)
    {
        for (int agent = 0; agent < clocks.Length; agent++) clocks[agent] = Math.Max(clocks[agent], Seen[agent]);
        clocks[Number] = Math.Max(clocks[Number], Clock);
        Step();
    }

    /// <summary>Takes over what others have released.</summary>
    public void Acquire(uint[] clocks)
    {
        for (int agent = 0; agent < clocks.Length; agent++) Seen[agent] = Math.Max(Seen[agent], clocks[agent]);
    }

    /// <summary>Orders what was before what comes.</summary>
    public void Step()
    {
        Clock++;
        if (Clock >= SharedMemory.MostClock) throw new CudaEmulationException("A block has too many barriers for the emulator to count.");
    }

    /// <summary>A block begins: all that was before it is ordered before it.</summary>
    public void Begin(uint clock)
    {
        Clock = clock;
        Array.Fill(Seen, clock - 1);
        LastOrdered = 0;
    }
}
