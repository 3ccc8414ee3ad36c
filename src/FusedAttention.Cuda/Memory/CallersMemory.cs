using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Memory;

/// <summary>Device memory of the caller's: used where it lies, never freed.</summary>
internal sealed unsafe class CallersMemory(ulong address, long bytes) : CudaMemory(address, null, bytes)
{
    protected override void Dispose(bool disposing)
    {
        // The caller's.
    }
}
