using System.Runtime.InteropServices;

namespace FusedAttention.Cuda.Memory;

/// <summary>What a stream was given to do with some memory: the last submissions that use it at all, and that write it; 0 if there is none.</summary>
[StructLayout(LayoutKind.Auto)]
internal record struct StreamUse(CudaStream Stream, long LastUse, long LastWrite)
{
    /// <summary>Whether the device may still be at it.</summary>
    public readonly bool IsPending => LastUse > Stream.Completed;
}
