using FusedAttention.Cuda.Emulation.Memory;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Emulation.Runtime;

/// <summary>Memory of the emulated device, or of the host where the device sees it.</summary>
internal sealed unsafe class EmulatedMemory : CudaMemory
{
    private readonly EmulatedRuntime _runtime;
    private int _isFreed;

    public EmulatedMemory(EmulatedRuntime runtime, Allocation allocation, bool isPinned)
        : base(allocation.Start, isPinned ? allocation.Pointer : null, allocation.Bytes)
    {
        (_runtime, Allocation) = (runtime, allocation);
    }

    public Allocation Allocation { get; }

    protected override void Dispose(bool disposing)
    {
        if (Interlocked.Exchange(ref _isFreed, 1) == 0) _runtime.Free(this);
    }
}
