using FusedAttention.Devices;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>An MTLBuffer in shared memory.</summary>
internal sealed unsafe class MetalBuffer : DeviceMemory
{
    /// <summary>MTLResourceStorageModeShared, default caching, hazards tracked: dispatches that touch the same buffer are ordered.</summary>
    private const nuint SharedStorage = 0;

    private MetalBuffer(NativeObject handle, void* contents, long bytes)
        : base(contents, bytes)
    {
        Handle = handle;
    }

    public NativeObject Handle { get; }

    /// <summary>What keeps the buffer where the GPU reaches it; null where nothing does.</summary>
    public Residency? Keeper { private get; set; }

    public static MetalBuffer Allocate(nint device, long bytes)
    {
        string what = $"a buffer of {bytes} bytes";
        return Over(NativeObject.Own(Messages.Get(device, Selectors.NewBufferWithLength, (nuint)bytes, SharedStorage), what), bytes, what);
    }

    public static MetalBuffer Wrap(nint device, nint pointer, long bytes)
    {
        // No deallocator: the memory stays the caller's.
        string what = $"a buffer over {bytes} bytes of the caller's memory";
        return Over(NativeObject.Own(Messages.Get(device, Selectors.NewBufferWithBytesNoCopy, pointer, (nuint)bytes, SharedStorage, 0), what), bytes, what);
    }

    protected override void Dispose(bool disposing)
    {
        Keeper?.Remove(Handle, Bytes);
        Keeper = null;
        Handle.Dispose();
    }

    private static MetalBuffer Over(NativeObject handle, long bytes, string what)
    {
        try
        {
            using NativeObject.Lease buffer = handle.Use();
            nint contents = NativeObject.NotNil(Messages.Get(buffer.Id, Selectors.Contents), $"the contents of {what}");
            return new(handle, (void*)contents, bytes);
        }
        catch
        {
            handle.Dispose();
            throw;
        }
    }
}
