using FusedAttention.Devices;

namespace FusedAttention.Metal.Launching;

/// <summary>What the planner needs to know of a device.</summary>
/// <param name="Name">As the system calls it, <c>Apple M4 Pro</c>.</param>
/// <param name="AppleFamily">7 for M1, 8 for M2, 9 for M3 and M4, 10 for M5.</param>
/// <param name="MaxThreadgroupMemory">In bytes, per threadgroup.</param>
/// <param name="MaxBufferLength">In bytes.</param>
/// <param name="HasKnownLaneMap">Whether the self-test found the layout of simdgroup matrices that <c>prefill.metal</c> relies on.</param>
internal sealed record MetalDeviceDescription(string Name, int AppleFamily, int MaxThreadgroupMemory, long MaxBufferLength, bool HasKnownLaneMap);

/// <summary>
/// A device as the rest of this library sees it. <c>MetalRuntime</c> is the one that talks to Metal; the tests have another one that runs the same launches in an
/// emulator. One serial queue: submissions run in order, and each sees what the ones before it wrote. Its memory is one address for processor and GPU.
/// </summary>
internal interface IMetalRuntime : IDeviceQueue, IDisposable
{
    MetalDeviceDescription Device { get; }

    /// <summary>The caller's memory as device memory, without a copy: page-aligned and whole pages.</summary>
    DeviceMemory Wrap(nint pointer, long bytes);

    /// <summary>Compiles a kernel unless that has been done.</summary>
    KernelResources Prepare(KernelFunction function);

    /// <summary>Queues launches as one command buffer, in order; returns its number, counting from 1. Does not wait. The launches are the caller's again when it returns.</summary>
    long Submit(ReadOnlySpan<KernelLaunch> launches);

    /// <summary>Waits until a submission has ended; throws if it, or one before it that nobody waited for, failed.</summary>
    void Wait(long submission);
}
