namespace FusedAttention.Metal.Launching;

/// <summary>Memory that the processor and the GPU share: one address for both. Released by whoever asked for it, after the work that uses it has completed.</summary>
internal abstract unsafe class DeviceMemory : IDisposable
{
    protected DeviceMemory(void* pointer, long bytes)
    {
        Pointer = (byte*)pointer;
        Bytes = bytes;
    }

    /// <summary>Where the processor sees it.</summary>
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
