using System.Runtime.InteropServices;

namespace FusedAttention.Paging;

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

    /// <summary>The first byte. Valid while a <see cref="Lease"/> is held, or while the owner is neither disposed nor collected.</summary>
    public byte* Pointer => (byte*)handle;

    /// <summary>Keeps the memory from being freed until the lease is disposed, whatever other threads do.</summary>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public Lease Hold() => new(this);

    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        GC.RemoveMemoryPressure(_bytes);
        return true;
    }

    public readonly ref struct Lease
    {
        private readonly AlignedMemory _memory;

        public Lease(AlignedMemory memory)
        {
            bool held = false;
            memory.DangerousAddRef(ref held);
            _memory = memory;
        }

        public void Dispose() => _memory.DangerousRelease();
    }
}
