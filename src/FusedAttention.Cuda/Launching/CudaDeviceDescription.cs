namespace FusedAttention.Cuda.Launching;

/// <summary>What the planner and the writers of kernels need to know of a device.</summary>
/// <param name="Ordinal">The driver's number for it, from 0.</param>
/// <param name="Name">As the driver calls it, <c>NVIDIA H100 80GB HBM3</c>.</param>
/// <param name="Major">Of the compute capability: 9 for Hopper.</param>
/// <param name="Minor">Of the compute capability.</param>
/// <param name="Multiprocessors">How many there are.</param>
/// <param name="MaxSharedMemory">Bytes that a block of threads can have, opted in.</param>
/// <param name="MemoryBytes">All of its memory.</param>
/// <param name="DriverVersion">The newest CUDA version that the driver knows, 13000 for 13.0.</param>
internal sealed record CudaDeviceDescription(
    int Ordinal, string Name, int Major, int Minor, int Multiprocessors, int MaxSharedMemory, long MemoryBytes, int DriverVersion)
{
    /// <summary>The cache before its memory; 0 where the runtime does not say.</summary>
    public long L2Bytes { get; init; }
}
