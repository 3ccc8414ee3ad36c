namespace FusedAttention.Devices;

/// <summary>An allocation that a device reads and writes. Released by whoever asked for it, after the work that uses it has completed.</summary>
internal abstract unsafe class DeviceMemory : IDisposable
{
    /// <param name="pointer">Where the processor sees it; null where it does not.</param>
    /// <param name="bytes">Its length.</param>
    protected DeviceMemory(void* pointer, long bytes)
    {
        Pointer = (byte*)pointer;
        Bytes = bytes;
    }

    /// <summary>Where the processor sees it; null where it does not.</summary>
    public byte* Pointer { get; }

    /// <summary>Its length.</summary>
    public long Bytes { get; }

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}
