using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>What all blocks of a launch have in common.</summary>
internal sealed unsafe class LaunchState
{
    public required KernelProgram Program { get; init; }

    public required DeviceSpace Space { get; init; }

    /// <summary>The bytes of the kernel's parameters.</summary>
    public required byte* Parameters { get; init; }

    public required int ParameterBytes { get; init; }

    public required (int X, int Y, int Z) Grid { get; init; }

    /// <summary>Of a block, along x.</summary>
    public required int Threads { get; init; }

    /// <summary>All of a block's.</summary>
    public required int SharedBytes { get; init; }

    public required LaunchOrder Order { get; init; }
}
