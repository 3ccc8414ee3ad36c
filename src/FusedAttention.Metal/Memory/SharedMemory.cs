using System.Runtime.InteropServices;
using FusedAttention.Devices;

namespace FusedAttention.Metal.Memory;

/// <summary>
/// Device memory with what is pending on it. Tensors and views share it; a call holds a reference while it is being queued; after the last one the memory goes back when the GPU has ended what
/// uses it, so disposing never waits (except for the caller's own memory, which the caller may free next).
/// </summary>
internal sealed unsafe class SharedMemory : SafeHandle
{
    private readonly MetalDevice _device;
    private readonly bool _isCallers;
    private long _lastUse;
    private long _lastWrite;

    /// <param name="device">Where it was allocated.</param>
    /// <param name="memory">Taken over.</param>
    /// <param name="isCallers">Whether it lies over memory of the caller's.</param>
    public SharedMemory(MetalDevice device, DeviceMemory memory, bool isCallers)
        : base(0, ownsHandle: true)
    {
        _device = device;
        _isCallers = isCallers;
        Memory = memory;
        SetHandle((nint)memory.Pointer);
        if (!isCallers) GC.AddMemoryPressure(memory.Bytes);
    }

    public override bool IsInvalid => handle == 0;

    /// <summary>For launches, while a reference is held.</summary>
    public DeviceMemory Memory { get; }

    public byte* Pointer => Memory.Pointer;

    /// <summary>Whether the GPU still uses it, as far as is known.</summary>
    public bool IsPending => Volatile.Read(ref _lastUse) is var last and not 0 && last > _device.Completed;

    /// <summary>Says that a submission reads, or also writes, the memory. Called in the order of submissions.</summary>
    public void Use(long submission, bool isWritten)
    {
        Volatile.Write(ref _lastUse, submission);
        if (isWritten) Volatile.Write(ref _lastWrite, submission);
    }

    /// <summary>Waits until the GPU writes the memory no more: what the processor reads then is what was computed.</summary>
    /// <exception cref="MetalException">The work failed. Thrown once: the memory may be written anew.</exception>
    public void AwaitWrites() => Await(ref _lastWrite);

    /// <summary>Waits until the GPU neither reads nor writes the memory: the processor may write then.</summary>
    /// <exception cref="MetalException">The work failed. Thrown once.</exception>
    public void AwaitUse()
    {
        Await(ref _lastWrite);
        Await(ref _lastUse);
    }

    /// <summary>Adds a reference; <see cref="SafeHandle.DangerousRelease"/> takes it away.</summary>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public void Hold()
    {
        ObjectDisposedException.ThrowIf(IsClosed, typeof(MetalTensor));
        bool held = false;
        DangerousAddRef(ref held);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing && _isCallers && !IsClosed) _device.WaitWithoutThrowing(Volatile.Read(ref _lastUse));
        base.Dispose(disposing);
    }

    protected override bool ReleaseHandle()
    {
        if (!_isCallers) GC.RemoveMemoryPressure(Memory.Bytes);
        _device.Retire(Memory, Volatile.Read(ref _lastUse));
        return true;
    }

    private void Await(ref long pending)
    {
        long submission = Volatile.Read(ref pending);
        if (submission == 0) return;
        try
        {
            _device.Wait(submission);
        }
        finally
        {
            // What failed is over too, and is told once: here for reading and writing both.
            Interlocked.CompareExchange(ref _lastWrite, 0, submission);
            Interlocked.CompareExchange(ref _lastUse, 0, submission);
        }
    }
}
