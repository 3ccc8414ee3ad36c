namespace FusedAttention.Cuda.Driver;

/// <content>Memory and what moves it.</content>
internal sealed unsafe partial class CudaDriver
{
    /// <summary>CU_MEMHOSTALLOC_PORTABLE: pinned for every context, not only the current one. CU_MEMHOSTALLOC_DEVICEMAP: the device sees it.</summary>
    private const uint HostAllocPortableMapped = 1 | 2;

    public ulong MemoryAllocate(long bytes)
    {
        ulong address;
        int result = _memAlloc(&address, (nuint)bytes);
        return result == Success ? address : throw NoMemory(bytes, result, "cuMemAlloc");
    }

    /// <summary>Memory of the device's pool, ready for every stream. Freeing it does not wait for the device, as freeing plain memory does.</summary>
    /// <param name="bytes">How much.</param>
    /// <param name="stream">Nothing else is queued on it.</param>
    public ulong MemoryAllocate(long bytes, nint stream)
    {
        ulong address;
        int result = _memAllocAsync(&address, (nuint)bytes, stream);
        if (result != Success) throw NoMemory(bytes, result, "cuMemAllocAsync");
        result = _streamSynchronize(stream);
        if (result == Success) return address;
        MemoryFree(address);
        throw NoMemory(bytes, result, "cuStreamSynchronize");
    }

    /// <summary>Says nothing of failure: it is called where nothing may be thrown, and an error of earlier work has its own readers.</summary>
    public void MemoryFree(ulong address) => _ = _memFree(address);

    public void* HostAllocate(long bytes)
    {
        void* pointer;
        int result = _memHostAlloc(&pointer, (nuint)bytes, HostAllocPortableMapped);
        return result == Success ? pointer : throw new CudaException($"The host gives no pinned memory of {bytes} bytes. {Describe(result, "cuMemHostAlloc")}");
    }

    /// <summary>Says nothing of failure.</summary>
    public void HostFree(void* pointer) => _ = _memFreeHost(pointer);

    public ulong HostDevicePointer(void* pointer)
    {
        ulong address;
        Check(_memHostGetDevicePointer(&address, pointer, 0), "cuMemHostGetDevicePointer");
        return address;
    }

    public void CopyHostToDevice(ulong to, void* from, long bytes, nint stream) => Check(_memcpyHtoDAsync(to, from, (nuint)bytes, stream), "cuMemcpyHtoDAsync");

    public void CopyDeviceToHost(void* to, ulong from, long bytes, nint stream) => Check(_memcpyDtoHAsync(to, from, (nuint)bytes, stream), "cuMemcpyDtoHAsync");

    public void CopyDeviceToDevice(ulong to, ulong from, long bytes, nint stream) => Check(_memcpyDtoDAsync(to, from, (nuint)bytes, stream), "cuMemcpyDtoDAsync");

    public void Clear(ulong address, long bytes, nint stream) => Check(_memsetD8Async(address, 0, (nuint)bytes, stream), "cuMemsetD8Async");

    private CudaException NoMemory(long bytes, int result, string function) => new($"The device gives no memory of {bytes} bytes. {Describe(result, function)}");
}
