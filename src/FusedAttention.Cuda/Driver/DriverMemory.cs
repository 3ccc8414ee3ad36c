using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Driver;

/// <summary>Memory of the device.</summary>
internal sealed unsafe class DriverMemory(CudaRuntime runtime, ulong address, long bytes) : CudaMemory(address, null, bytes)
{
    private int _isFreed;

    protected override void Dispose(bool disposing)
    {
        if (Interlocked.Exchange(ref _isFreed, 1) == 0) runtime.Free(Address);
    }
}

/// <summary>Pinned memory of the host, which the device sees.</summary>
internal sealed unsafe class PinnedMemory(CudaRuntime runtime, ulong address, void* pointer, long bytes) : CudaMemory(address, pointer, bytes)
{
    private int _isFreed;

    protected override void Dispose(bool disposing)
    {
        if (Interlocked.Exchange(ref _isFreed, 1) == 0) runtime.FreePinned(Pointer);
    }
}
