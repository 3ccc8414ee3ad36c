using FusedAttention.Devices;

namespace FusedAttention.Cuda.Launching;

/// <summary>Memory at an address of the device.</summary>
internal abstract unsafe class CudaMemory : DeviceMemory
{
    /// <param name="address">Where the device sees it.</param>
    /// <param name="pointer">Where the processor sees it; null where it does not.</param>
    /// <param name="bytes">Its length.</param>
    protected CudaMemory(ulong address, void* pointer, long bytes)
        : base(pointer, bytes) => Address = address;

    /// <summary>Where the device sees it.</summary>
    public ulong Address { get; }
}

/// <summary>Places as kernels take them.</summary>
internal static class CudaPlaces
{
    /// <summary>The address of a place's first byte.</summary>
    public static ulong Address(this MemoryPlace place) => ((CudaMemory)place.Memory).Address + (ulong)place.Offset;
}
