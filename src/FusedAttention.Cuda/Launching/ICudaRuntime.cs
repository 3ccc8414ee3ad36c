using FusedAttention.Devices;

namespace FusedAttention.Cuda.Launching;

/// <summary>
/// A device as the rest of this library sees it. <c>CudaRuntime</c> is the one that talks to the driver; tests have another one that records. Every member may be called on any thread: the device's
/// context is made current for the call and put back.
/// </summary>
internal interface ICudaRuntime : IDisposable
{
    CudaDeviceDescription Device { get; }

    /// <summary>A folder where assembled kernels are kept and looked for; null for none, and where nothing is assembled.</summary>
    /// <exception cref="IOException">It cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be made.</exception>
    string? KernelFolder
    {
        get => null;
        set { }
    }

    /// <summary>Fresh device memory, at a multiple of 256; contents undefined. Disposing it waits for nothing: whoever disposes knows that the device is done with it.</summary>
    /// <exception cref="CudaException">The device does not give it.</exception>
    CudaMemory Allocate(long bytes);

    /// <summary>Fresh memory of the host that the device reads in place and copies from without waiting: <see cref="DeviceMemory.Pointer"/> is not null.</summary>
    CudaMemory AllocatePinned(long bytes);

    /// <summary>A stream of its own, which waits for no other.</summary>
    ICudaStream CreateStream();

    /// <summary>The caller's stream, by its handle; 0 is the legacy default stream. Disposing does not destroy it.</summary>
    ICudaStream WrapStream(nint handle);

    /// <summary>Writes and loads a kernel unless that has been done.</summary>
    /// <exception cref="CudaException">The driver refuses the text; the message has its log.</exception>
    void Prepare(KernelFunction function);

    /// <summary>Encodes a tensor for the device's copy unit, without asking the device; compute capability 9.0 and a driver of CUDA 12 or later.</summary>
    /// <param name="shape">The tensor.</param>
    /// <param name="map">Receives <see cref="TensorMapShape.MapBytes"/> bytes.</param>
    /// <exception cref="CudaException">The driver refuses it, or is too old.</exception>
    void EncodeTensorMap(in TensorMapShape shape, Span<byte> map);

    /// <summary>Waits until all streams of the device's context are done.</summary>
    /// <exception cref="CudaException">Some work failed.</exception>
    void Synchronize();
}

/// <summary>
/// A stream. What is queued runs in order. A submission is what was queued since the last <see cref="EndSubmission"/>; submissions are counted from 1. Callers serialise queueing on one stream.
/// </summary>
internal interface ICudaStream : IDeviceQueue, IDisposable
{
    /// <summary>The driver's handle.</summary>
    nint Handle { get; }

    /// <summary>Whether what is queued goes into a graph that is being captured, instead of running.</summary>
    bool IsCapturing { get; }

    void Launch(in KernelLaunch launch);

    /// <summary>Host to device: queued, so <paramref name="from"/> stays as it is until the submission has ended if it is pinned; memory that is not is copied before this returns.</summary>
    unsafe void CopyToDevice(MemoryPlace to, void* from, long bytes);

    /// <summary>Device to host; pinned or not, it is there when the submission has ended (waited for with <see cref="Wait"/>).</summary>
    unsafe void CopyToHost(void* to, MemoryPlace from, long bytes);

    /// <summary>Device to device.</summary>
    void Copy(MemoryPlace to, MemoryPlace from, long bytes);

    /// <summary>Sets bytes to zero.</summary>
    void Clear(MemoryPlace place, long bytes);

    /// <summary>Ends a submission and returns its number. While capturing there is none, and the result is 0: what a graph uses, its owner keeps.</summary>
    long EndSubmission();

    /// <summary>Lets what is queued from now on wait for a submission of another stream, on the device.</summary>
    void WaitFor(ICudaStream other, long submission);

    /// <summary>Waits, on this thread, until a submission has ended.</summary>
    /// <exception cref="CudaException">Work on the device failed.</exception>
    void Wait(long submission);
}
