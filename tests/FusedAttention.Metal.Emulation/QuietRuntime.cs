using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.Emulation;

/// <summary>A device that computes nothing, writes nothing down and has ended as soon as it is to: what is left of a call is the host's own work.</summary>
internal sealed unsafe class QuietRuntime : IMetalRuntime
{
    private long _submitted;

    public MetalDeviceDescription Device { get; init; } = new("Quiet", AppleFamily: 9, MaxThreadgroupMemory: 32768, MaxBufferLength: 1 << 30, HasKnownLaneMap: true);

    /// <summary>How many of the last submissions are under way at any time.</summary>
    public long Lag { get; init; }

    public long Completed => Math.Max(0, _submitted - Lag);

    public long Submitted => _submitted;

    public DeviceMemory Allocate(long bytes) => new Memory(NativeMemory.AlignedAlloc((nuint)bytes, 16384), bytes);

    public DeviceMemory Wrap(nint pointer, long bytes) => throw new NotSupportedException();

    public KernelResources Prepare(KernelFunction function) => default;

    public double SubmissionBudget { get; init; } = CommandBufferBudget.First;

    public long Submit(ReadOnlySpan<KernelLaunch> launches, bool staysOpen = false) => staysOpen ? _submitted + 1 : ++_submitted;

    public void Commit() => ++_submitted;

    public void Wait(long submission)
    {
    }

    public void Dispose()
    {
    }

    private sealed class Memory(void* pointer, long bytes) : DeviceMemory(pointer, bytes)
    {
        protected override void Dispose(bool disposing) => NativeMemory.AlignedFree(Pointer);
    }
}
