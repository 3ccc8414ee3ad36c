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

    /// <summary>Asks the system to leave memory where the GPU reaches it for as long as the device is in use; nothing where the system has no such thing.</summary>
    void KeepResident(DeviceMemory memory)
    {
    }

    /// <summary>Compiles a kernel unless that has been done.</summary>
    KernelResources Prepare(KernelFunction function);

    /// <summary>What a submission may cost (<see cref="KernelLaunch.Cost"/>), as far as is known by now.</summary>
    double SubmissionBudget { get; }

    /// <summary>
    /// Puts launches behind those of the submission that is open, or into a new one, and hands it to the device unless it is to stay open. Does not wait. The launches are the caller's again when it returns; where it throws,
    /// none of them will run, and what was open stays so.
    /// </summary>
    /// <param name="launches">One or more, in order.</param>
    /// <param name="staysOpen">Whether launches of the next call come into the same submission.</param>
    /// <returns>The submission's number, counting from 1.</returns>
    long Submit(ReadOnlySpan<KernelLaunch> launches, bool staysOpen = false);

    /// <summary>Hands the open submission to the device, if there is one.</summary>
    void Commit();

    /// <summary>Waits until a submission, which is not open, has ended; throws if it, or one before it that nobody waited for, failed.</summary>
    void Wait(long submission);
}
