using System.Diagnostics.CodeAnalysis;
using System.Numerics;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Memory;
using FusedAttention.Devices;

namespace FusedAttention;

/// <summary>
/// A CUDA stream: work that was queued on it is done in the order in which calls were made, on whatever threads. Made by <see cref="CudaDevice.CreateStream"/>, or over a stream of the caller's by
/// <see cref="CudaDevice.WrapStream"/>.
/// </summary>
/// <remarks>
/// <para>Calls return when their work is queued. Streams run beside each other; where two of them use the same tensor, one of them writing it, this library lets the later call wait for the earlier one,
/// on the device. It knows of calls through its own streams only: work that the caller queues on <see cref="Handle"/> in other ways is in the order of that stream, and no other stream waits for it.</para>
/// <para>Graphs: while the caller captures the stream (<c>cuStreamBeginCapture</c>), calls go into the graph. Tables, those of functions too, and working memory that they have stay with this object until it is disposed, so
/// dispose it after the graphs; the tensors that captured calls use are the caller's to keep, and to keep in order with other streams.</para>
/// <para>A stream has working memory of its own, so create as many as run side by side and keep them; one that is not disposed lives as long as the process. All methods may be called from any number of
/// threads at once.</para>
/// </remarks>
[SuppressMessage("Naming", "CA1711:Identifiers should not have incorrect suffix", Justification = "A stream is what CUDA calls it; nobody takes it for one of bytes.")]
public sealed partial class CudaStream : IDisposable
{
    /// <summary>Counters of a call: some for each work item or row block.</summary>
    private const long SmallestCounters = 64 << 10;

    /// <summary>How far this stream has been told to wait for others, so that it is told once.</summary>
    private readonly List<StreamUse> _waited = [];

    /// <summary>What captured calls read that is nobody else's to keep.</summary>
    private readonly HashSet<TensorMemory> _captured = [];

    /// <summary>Outgrown; kernels under way use them, and all of them together are no longer than the last.</summary>
    private readonly List<CudaMemory> _outgrown = [];
    private CudaMemory? _counters;
    private TableFaults? _tableFaults;
    private long _submitted;

    internal CudaStream(CudaDevice device, ICudaStream queue)
    {
        Device = device;
        Queue = queue;
        Transient = new(queue);
        Pinned = new(new PinnedQueue(device.Runtime, queue));
        CapturedTransient = new(Transient);
        CapturedPinned = new(Pinned);
    }

    /// <summary>The device that the stream belongs to.</summary>
    public CudaDevice Device { get; }

    /// <summary>The driver's handle, a <c>CUstream</c> or <c>cudaStream_t</c>, for the caller's own work in the order of this stream.</summary>
    public nint Handle => Queue.Handle;

    /// <summary>Whether what is queued goes into a graph that the caller is capturing, instead of running.</summary>
    /// <exception cref="CudaException">The driver does not say.</exception>
    public bool IsCapturing => Queue.IsCapturing;

    internal ICudaStream Queue { get; }

    /// <summary>Held while a call is queued.</summary>
    internal Lock Queueing { get; } = new();

    /// <summary>Working memory on the device.</summary>
    internal TransientPool Transient { get; }

    /// <summary>Working memory of the host.</summary>
    internal TransientPool Pinned { get; }

    internal CaptureMemory CapturedTransient { get; }

    internal CaptureMemory CapturedPinned { get; }

    internal bool IsDisposed { get; private set; }

    /// <summary>What calls with block tables on the device find wrong in them; made when the first one comes. Under <see cref="Queueing"/>.</summary>
    /// <exception cref="CudaException">The driver gives no pinned memory.</exception>
    internal TableFaults TableFaults => _tableFaults ??= Device.MakeTableFaults();

    /// <summary>The number of the last submission known to have ended.</summary>
    internal long Completed => Queue.Completed;

    /// <summary>The number of the last submission. Written under <see cref="Queueing"/>.</summary>
    internal long Submitted
    {
        get => Volatile.Read(ref _submitted);
        set => Volatile.Write(ref _submitted, value);
    }

    /// <summary>Waits until the device has done all that was queued on the stream so far, by whomever.</summary>
    /// <exception cref="CudaException">Some work on the device failed.</exception>
    /// <exception cref="InvalidOperationException">The stream is being captured: nothing of that runs yet.</exception>
    /// <exception cref="ObjectDisposedException">The stream is disposed.</exception>
    public void Synchronize()
    {
        Wait(Mark());
    }

    /// <summary>
    /// Waits for the stream's work and gives its working memory back; a stream of the caller's is left as it is. Graphs that were captured from calls on this stream must not run any more.
    /// </summary>
    public void Dispose()
    {
        lock (Queueing)
        {
            if (IsDisposed) return;
            IsDisposed = true;
            try
            {
                Queue.Wait(Submitted);
            }
            catch (CudaException)
            {
                // Work that failed is over too. Whoever needs its results is told.
            }

            _waited.Clear();
            if (_tableFaults is not null) Device.Forget(_tableFaults);
            _tableFaults = null;
            _counters?.Dispose();
            foreach (CudaMemory memory in _outgrown) memory.Dispose();
            _captured.Clear();
            CapturedTransient.Dispose();
            CapturedPinned.Dispose();
            Transient.Close();
            Pinned.Close();
            Queue.Dispose();
        }

        Device.Retired.Collect();
    }

    /// <summary>Device and handle, for messages.</summary>
    public override string ToString() => $"stream 0x{Handle:x} of {Device}";

    /// <summary>Waits until a submission has ended.</summary>
    /// <exception cref="CudaException">Work on the device failed.</exception>
    internal void Wait(long submission)
    {
        // A number yet to come: of work whose submission could not be ended.
        Queue.Wait(submission <= Submitted || IsDisposed ? long.Min(submission, Submitted) : Mark());
        Device.Retired.Collect();
        lock (Queueing)
        {
            // What this stream waited for counts too: results may come from there.
            _tableFaults?.ThrowIfAny();
            foreach (StreamUse use in _waited) use.Stream._tableFaults?.ThrowIfAny();
        }
    }

    /// <summary>Lets what is queued from now on wait for a submission of another stream, unless it has ended or something queued before waits for it. Under <see cref="Queueing"/>.</summary>
    internal void WaitFor(CudaStream other, long submission)
    {
        if (submission <= 0) return;
        int place = -1;
        for (int i = 0; i < _waited.Count; i++)
        {
            if (_waited[i].Stream != other) continue;
            if (_waited[i].LastUse >= submission) return;
            place = i;
        }

        submission = long.Min(submission, other.Submitted);
        if (submission <= other.Completed) return;
        Queue.WaitFor(other.Queue, submission);
        StreamUse waited = new(other, submission, 0);
        if (place >= 0) _waited[place] = waited;
        else if (_waited.FindIndex(static use => !use.IsPending) is var over and >= 0) _waited[over] = waited;
        else _waited.Add(waited);
    }

    /// <summary>Keeps the tables of a captured call's functions as long as its graph may run, which is ordered against no other stream: so their copies have arrived when this returns.</summary>
    internal void KeepForGraphs(ReadOnlySpan<MemoryUse> tables)
    {
        foreach (MemoryUse use in tables) use.Memory.AwaitWrites();
        lock (Queueing)
        {
            foreach (MemoryUse use in tables) _captured.Add(use.Memory);
        }
    }

    /// <summary>Zeroed memory, the same for all calls, which leave it at zero. Under <see cref="Queueing"/>.</summary>
    internal MemoryPlace Counters(long bytes)
    {
        if (_counters is null || _counters.Bytes < bytes)
        {
            CudaMemory grown = Device.Runtime.Allocate(long.Max(SmallestCounters, (long)BitOperations.RoundUpToPowerOf2((ulong)bytes)));
            try
            {
                Queue.Clear(new(grown, 0), grown.Bytes);
            }
            catch
            {
                grown.Dispose();
                throw;
            }

            if (_counters is not null) _outgrown.Add(_counters);
            _counters = grown;
        }

        return new(_counters, 0);
    }

    /// <summary>Ends a submission of whatever was queued so far.</summary>
    private long Mark()
    {
        lock (Queueing)
        {
            ObjectDisposedException.ThrowIf(IsDisposed, this);
            if (IsCapturing) throw new InvalidOperationException($"The {this} is being captured: nothing that is queued runs before the graph does, so there is nothing to wait for.");
            return Submitted = Queue.EndSubmission();
        }
    }
}
