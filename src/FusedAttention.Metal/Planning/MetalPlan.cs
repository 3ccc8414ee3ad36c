using System.Collections.Immutable;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>What a call does on a device: which kernels over which work items. Made without running or compiling anything.</summary>
internal sealed class MetalPlan
{
    private MetalPlan()
    {
    }

    /// <summary>The kernels: <c>prefill</c>, <c>decode</c>, <c>plain</c>, joined by <c>+</c>; <c>none</c> for an empty call.</summary>
    public required string Kernel { get; init; }

    /// <summary>Every function the plan launches, for compiling ahead.</summary>
    public required ImmutableArray<KernelFunction> Functions { get; init; }

    /// <summary>Bytes of tables and partial results.</summary>
    public required long ScratchBytes { get; init; }

    /// <summary>Threadgroups, all launches together.</summary>
    public required long WorkItems { get; init; }

    /// <summary>Tiles, splits and the reasons for them, one line each.</summary>
    public required string Details { get; init; }

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="device">Where it will run.</param>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions; the message has them.</exception>
    public static MetalPlan Of(AttentionProblem problem, MetalDeviceDescription device) => throw new NotSupportedException("Not built yet.");

    /// <summary>
    /// The launches of the plan on given memory, grouped into command buffers of bounded work: each inner array is one submission. Writes the tables into transient memory.
    /// </summary>
    public ImmutableArray<ImmutableArray<KernelLaunch>> Bind(AttentionProblem problem, CallMemory memory, ITransientMemory transient) => throw new NotSupportedException("Not built yet.");
}
