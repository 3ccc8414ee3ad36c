using FusedAttention.Devices;

namespace FusedAttention.Metal.Launching;

/// <summary>Three sizes, as MTLSize.</summary>
internal readonly record struct GridSize(uint X, uint Y, uint Z)
{
    public ulong Count => (ulong)X * Y * Z;
}

/// <summary>A buffer argument: <c>setBuffer:offset:atIndex:</c>.</summary>
/// <param name="Index">The slot, from 0 to 30.</param>
/// <param name="Memory">The memory.</param>
/// <param name="Offset">In bytes.</param>
/// <param name="IsWritten">Whether the kernel writes it.</param>
internal readonly record struct BufferBinding(int Index, DeviceMemory Memory, long Offset, bool IsWritten);

/// <summary>
/// One dispatch, complete: what the runtime encodes and what the emulator of the tests runs. Kernels declare their threadgroup memory themselves, so there is
/// none to set. Whoever made it may change it and its arrays when <see cref="IMetalRuntime.Submit"/> has returned.
/// </summary>
/// <param name="Function">The kernel and its constants.</param>
/// <param name="Buffers">Buffer arguments.</param>
/// <param name="ParameterIndex">The slot of <paramref name="Parameters"/>: <c>setBytes:length:atIndex:</c>.</param>
/// <param name="Parameters">A parameter block of less than 4,096 bytes.</param>
/// <param name="Threadgroups">The grid, in threadgroups.</param>
/// <param name="ThreadsPerThreadgroup">Threads of each.</param>
internal sealed record KernelLaunch(
    KernelFunction Function,
    BufferBinding[] Buffers,
    int ParameterIndex,
    byte[] Parameters,
    GridSize Threadgroups,
    GridSize ThreadsPerThreadgroup)
{
    public KernelFunction Function { get; set; } = Function;

    public byte[] Parameters { get; set; } = Parameters;

    public GridSize Threadgroups { get; set; } = Threadgroups;

    public GridSize ThreadsPerThreadgroup { get; set; } = ThreadsPerThreadgroup;

    /// <summary>How long it will take, about, in floating-point operations of the prefill kernel; 0 where nobody says.</summary>
    public double Cost { get; set; }
}
