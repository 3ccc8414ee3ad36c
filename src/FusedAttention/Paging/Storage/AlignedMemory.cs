using System.Runtime.InteropServices;

namespace FusedAttention.Paging.Storage;

/// <summary>Native memory that starts at a cache line, known to the garbage collector by its size, freed when nobody holds it any more.</summary>
internal sealed unsafe class AlignedMemory : SafeHandle
{
    /// <summary>One cache line, and one 512-bit register.</summary>
    public const int Alignment = 64;

    private readonly long _bytes;

    /// <param name="bytes">How many bytes; more than 0. They are not cleared: the system gives memory to pages when they are first touched.</param>
    public AlignedMemory(long bytes)
        : base(0, ownsHandle: true)
    {
        SetHandle((nint)NativeMemory.AlignedAlloc(checked((nuint)bytes), Alignment));
        _bytes = bytes;
        GC.AddMemoryPressure(bytes);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>The first byte. Valid while a reference to the handle is held, or while the owner is neither disposed nor collected.</summary>
    public byte* Pointer => (byte*)handle;

    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        GC.RemoveMemoryPressure(_bytes);
        return true;
    }
}
