using System.Runtime.InteropServices;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cuda.Memory;

/// <summary>
/// Device memory with what is pending on it, stream by stream. Tensors and views share it; a call holds a reference while it is being queued; after the last one the memory goes back when every stream
/// has ended what uses it, so disposing never waits.
/// </summary>
internal sealed class TensorMemory : SafeHandle
{
    private readonly Lock _gate = new();

    /// <summary>Usually one stream works on a tensor. A place whose work has ended is taken by the next stream.</summary>
    private StreamUse[] _uses = new StreamUse[1];
    private int _count;

    /// <param name="device">Where it was allocated.</param>
    /// <param name="memory">Taken over.</param>
    public TensorMemory(CudaDevice device, CudaMemory memory)
        : base(0, ownsHandle: true)
    {
        Device = device;
        Memory = memory;
        SetHandle(1);       // an address may well be 0: an empty tensor over the caller's memory
    }

    public override bool IsInvalid => handle == 0;

    public CudaDevice Device { get; }

    /// <summary>For launches, while a reference is held.</summary>
    public CudaMemory Memory { get; }

    /// <summary>Whether the device still uses it, as far as is known.</summary>
    public bool IsPending
    {
        get
        {
            lock (_gate)
            {
                foreach (ref readonly StreamUse use in _uses.AsSpan(0, _count))
                    if (use.IsPending) return true;
                return false;
            }
        }
    }

    /// <summary>Says that a submission reads, or also writes, the memory. Called in the order of a stream's submissions.</summary>
    public void Use(CudaStream stream, long submission, bool isWritten)
    {
        lock (_gate)
        {
            ref StreamUse use = ref PlaceFor(stream);
            use.LastUse = submission;
            if (isWritten) use.LastWrite = submission;
        }
    }

    /// <summary>Lets what a stream is given next wait on the device for the work of other streams that it must not overtake: for writes, and if it writes itself, for all use.</summary>
    /// <param name="stream">Its queue is held.</param>
    /// <param name="isWritten">Whether it will write the memory.</param>
    public void Order(CudaStream stream, bool isWritten)
    {
        lock (_gate)
        {
            foreach (ref readonly StreamUse use in _uses.AsSpan(0, _count))
                if (use.Stream != stream) stream.WaitFor(use.Stream, isWritten ? use.LastUse : use.LastWrite);
        }
    }

    /// <summary>Waits until no stream writes the memory any more: what is read then is what was computed.</summary>
    /// <exception cref="CudaException">The work failed.</exception>
    public void AwaitWrites() => Await(writesOnly: true);

    /// <summary>Waits until no stream reads or writes the memory.</summary>
    /// <exception cref="CudaException">The work failed.</exception>
    public void AwaitUse() => Await(writesOnly: false);

    /// <summary>Adds a reference; <see cref="SafeHandle.DangerousRelease"/> takes it away.</summary>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public void Hold()
    {
        ObjectDisposedException.ThrowIf(IsClosed, typeof(CudaTensor));
        bool held = false;
        DangerousAddRef(ref held);
    }

    protected override bool ReleaseHandle()
    {
        Device.Retired.Add(Memory, _uses);
        return true;
    }

    private void Await(bool writesOnly)
    {
        // Places stay where they are, and one that another stream has taken meanwhile had nothing to wait for.
        for (int i = 0; ; i++)
        {
            StreamUse use;
            lock (_gate)
            {
                if (i >= _count) return;
                use = _uses[i];
            }

            long submission = writesOnly ? use.LastWrite : use.LastUse;
            if (submission > 0) use.Stream.Wait(submission);
        }
    }

    /// <summary>Under the lock.</summary>
    private ref StreamUse PlaceFor(CudaStream stream)
    {
        int free = -1;
        for (int i = 0; i < _count; i++)
        {
            if (_uses[i].Stream == stream) return ref _uses[i];
            if (free < 0 && !_uses[i].IsPending) free = i;
        }

        if (free < 0)
        {
            free = _count++;
            if (free == _uses.Length) Array.Resize(ref _uses, 2 * free);
        }

        _uses[free] = new(stream, 0, 0);
        return ref _uses[free];
    }
}
