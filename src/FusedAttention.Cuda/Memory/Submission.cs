using System.Runtime.InteropServices;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Memory;

/// <summary>
/// One call's work on its way to a stream: memory is taken, then the stream, what the call consists of is queued, and the memory it uses learns of it. Allocates nothing in steady state.
/// </summary>
/// <remarks>
/// <code>
/// using Submission work = new(stream, uses);              // nothing is held yet: take memory, write tables
/// MemoryPlace tables = work.Pinned.Take(bytes), scratch = work.Transient.Take(bytes);
/// work.Begin();                                           // the stream is this thread's, and waits for what other streams do with the tensors
/// work.CopyToDevice(scratch, tables, bytes);
/// work.Launch(new KernelLaunch(...));
/// long number = work.End();                               // the stream is everybody's again; only who reads results waits for the number
/// </code>
/// If something throws between, disposing ends the submission with what was queued so far: its memory is kept until that is done.
/// </remarks>
[StructLayout(LayoutKind.Auto)]
internal ref struct Submission : IDisposable
{
    private readonly TransientPool.Rental? _transient;
    private readonly TransientPool.Rental? _pinned;
    private readonly ReadOnlySpan<MemoryUse> _uses;
    private bool _isOpen;

    /// <param name="stream">Where the work goes.</param>
    /// <param name="uses">Tensors of the call, held by the caller until the submission is disposed.</param>
    /// <exception cref="ObjectDisposedException">The stream is disposed.</exception>
    public Submission(CudaStream stream, ReadOnlySpan<MemoryUse> uses)
    {
        ObjectDisposedException.ThrowIf(stream.IsDisposed, stream);
        Stream = stream;
        _uses = uses;
        IsCapturing = stream.IsCapturing;
        if (IsCapturing)
        {
            (Transient, Pinned) = (stream.CapturedTransient, stream.CapturedPinned);
        }
        else
        {
            Transient = _transient = stream.Transient.Rent();
            Pinned = _pinned = stream.Pinned.Rent();
        }
    }

    public CudaStream Stream { get; }

    /// <summary>Whether the call becomes part of a graph: then its transient memory is the stream's until that is disposed, and nothing is ordered against other streams.</summary>
    public bool IsCapturing { get; }

    /// <summary>Device memory of this call only; contents undefined.</summary>
    public ITransientMemory Transient { get; }

    /// <summary>Memory of the host of this call only, which <see cref="CopyToDevice(MemoryPlace, MemoryPlace, long)"/> copies from without waiting, and kernels could read in place.</summary>
    public ITransientMemory Pinned { get; }

    /// <summary>Takes the stream, until <see cref="End"/>, and lets it wait for the work of other streams that this call must not overtake. Load kernels before: it takes long and may fail.</summary>
    /// <exception cref="CudaException">The device failed.</exception>
    public void Begin()
    {
        if (_isOpen) throw new InvalidOperationException("The submission has begun.");
        Stream.Device.Retired.Collect();
        Stream.Queueing.Enter();
        try
        {
            ObjectDisposedException.ThrowIf(Stream.IsDisposed, Stream);
            if (!IsCapturing)
            {
                foreach (MemoryUse use in _uses) use.Memory.Order(Stream, use.IsWritten);
            }
        }
        catch
        {
            Stream.Queueing.Exit();
            throw;
        }

        _isOpen = true;
    }

    public readonly void Launch(in KernelLaunch launch) => Queue.Launch(launch);

    /// <summary>From pinned memory.</summary>
    public readonly unsafe void CopyToDevice(MemoryPlace to, MemoryPlace from, long bytes) => Queue.CopyToDevice(to, from.Memory.Pointer + from.Offset, bytes);

    /// <summary>From any memory of the host; what is not pinned has been read when this returns.</summary>
    public readonly unsafe void CopyToDevice(MemoryPlace to, void* from, long bytes) => Queue.CopyToDevice(to, from, bytes);

    /// <summary>To any memory of the host; there when the submission has ended.</summary>
    public readonly unsafe void CopyToHost(void* to, MemoryPlace from, long bytes) => Queue.CopyToHost(to, from, bytes);

    /// <summary>Device to device.</summary>
    public readonly void Copy(MemoryPlace to, MemoryPlace from, long bytes) => Queue.Copy(to, from, bytes);

    /// <summary>Sets bytes to zero.</summary>
    public readonly void Clear(MemoryPlace place, long bytes) => Queue.Clear(place, bytes);

    /// <summary>Zeroed device memory for counters that the call's kernels leave at zero again. All calls of a stream have the same place, so a kernel is done with it when the next one begins.</summary>
    public readonly MemoryPlace Counters(long bytes)
    {
        ICudaStream queue = Queue;
        if (!IsCapturing) return Stream.Counters(bytes);

        // A graph may run beside calls of the stream, and the first time before any: it has its own, and clears them.
        MemoryPlace place = Transient.Take(bytes);
        queue.Clear(place, bytes);
        return place;
    }

    /// <summary>Gives the stream free. The memory of the call is the device's until the submission has ended.</summary>
    /// <returns>Its number, for <see cref="CudaStream.Wait"/>; 0 while capturing.</returns>
    /// <exception cref="CudaException">The device failed.</exception>
    public long End()
    {
        ICudaStream queue = Queue;

        // If ending fails, what was queued has ended when the stream's next submission has.
        long number = Stream.Submitted + 1;
        try
        {
            number = queue.EndSubmission();
            if (number > 0) Stream.Submitted = number;
            return number;
        }
        finally
        {
            if (number > 0)
            {
                _transient?.Use(number);
                _pinned?.Use(number);
                foreach (MemoryUse use in _uses) use.Memory.Use(Stream, number, use.IsWritten);
            }

            _isOpen = false;
            Stream.Queueing.Exit();
        }
    }

    public void Dispose()
    {
        try
        {
            // Something threw. What was queued before it runs, and has its memory.
            if (_isOpen) End();
        }
        catch (CudaException)
        {
            // The device does not work any more, and that has been thrown.
        }
        finally
        {
            _transient?.Dispose();
            _pinned?.Dispose();
        }
    }

    private readonly ICudaStream Queue => _isOpen ? Stream.Queue : throw new InvalidOperationException("The submission has not begun, or has ended.");
}
