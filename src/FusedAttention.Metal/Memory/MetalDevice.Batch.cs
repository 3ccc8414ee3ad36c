using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Memory;

namespace FusedAttention;

/// <content>Many calls in one command buffer.</content>
public sealed unsafe partial class MetalDevice
{
    /// <summary>
    /// Launches of a batch's command buffer, after which it is committed whatever the calls behind them: the GPU has nothing to do until then. 64 are 32 layers that write a cache and attend to it, and
    /// take the host about as long as one command buffer takes the system to begin (100 to 200 us).
    /// </summary>
    private const int MostBatchedLaunches = 64;

    /// <summary>This thread's, one for each device that it has open batches on, and some without; null where it never had any.</summary>
    [ThreadStatic]
    private static ThreadBatch? _ofThread;

    /// <summary>The number of the submission that is open; 0 for none. Written under the lock.</summary>
    private long _open;
    private double _openCost;
    private int _openLaunches;

    private bool IsBatching => OpenBatch is not null;

    /// <summary>This thread's on this device; null where none is open.</summary>
    private ThreadBatch? OpenBatch
    {
        get
        {
            ThreadBatch? batch = _ofThread;
            while (batch is not null && (batch.Device != this || batch.Depth == 0)) batch = batch.Next;
            return batch;
        }
    }

    /// <summary>
    /// From here on until the batch is disposed, calls of this thread on this device share command buffers, where each would have one of its own: <see cref="MetalAttention"/>'s calls and merges, and writing caches. For loops over
    /// layers, in which beginning a command buffer (some 10 us, and a pause of the GPU between two) costs more than a short call itself.
    /// </summary>
    /// <remarks>
    /// <para>Nothing else changes: what a call computes, the order of calls, what it refuses. Work goes to the GPU when the batch is disposed, when 64 launches or about 0.1 s of work have come together, and as soon as somebody waits
    /// for it: taking a span of a tensor, <see cref="MetalTensor.Wait"/> and <see cref="Synchronize"/> wait for batched work too, from any thread. <see cref="MetalTensor.IsPending"/> alone does not make it go.</para>
    /// <para>A call that throws leaves the batch as it was before it. What fails on the GPU fails for all calls of its command buffer, whose outputs are then undefined; as ever, what waits next throws.</para>
    /// <para>Calls of other threads are not batched. They come behind what has been batched so far, and take it along. Batches may lie within each other: the outermost counts.</para>
    /// </remarks>
    /// <returns>Dispose it, on this thread; a <c>using</c> is best.</returns>
    public MetalBatch Batch()
    {
        ThreadBatch batch = OpenBatch ?? ThreadBatch.For(this);
        return new(this, ++batch.Depth);
    }

    /// <summary>Ends a batch of this thread, and those within it.</summary>
    /// <param name="depth">How many lie around it, and itself.</param>
    internal void EndBatch(int depth)
    {
        if (OpenBatch is not { } batch || batch.Depth < depth) return;
        batch.Depth = depth - 1;
        if (batch.Depth > 0) return;
        lock (_submitting) CommitOpen();
        batch.GiveBack();
    }

    /// <summary>Transient memory for a call: dispose it when the call is queued.</summary>
    internal TransientLease RentTransient()
    {
        if (OpenBatch is not { } batch) return new(_transient.Rent(), isCalls: true);

        // A call takes a few kilobytes of a megabyte: together until they are committed. What has been goes back, to be used again when it has ended.
        if (batch.Transient is { LastUse: not 0 } used && used.LastUse != Volatile.Read(ref _open)) batch.GiveBack();
        return new(batch.Transient ??= _transient.Rent(), isCalls: false);
    }

    /// <summary>A command buffer, or a part of the open one. Under the lock.</summary>
    private void Submit(ReadOnlySpan<KernelLaunch> launches, bool staysOpen, TransientPool.Rental transient, ReadOnlySpan<MemoryUse> uses)
    {
        double cost = 0;
        foreach (KernelLaunch launch in launches) cost += launch.Cost;
        if (_open != 0 && _openCost + cost > _runtime.SubmissionBudget) CommitOpen();
        staysOpen &= _openLaunches + launches.Length < MostBatchedLaunches;
        _submitted = _runtime.Submit(launches, staysOpen);
        (_openCost, _openLaunches) = staysOpen ? (_openCost + cost, _openLaunches + launches.Length) : (0, 0);

        // Before the memory says who waits for what: whoever reads it there finds it open here.
        Volatile.Write(ref _open, staysOpen ? _submitted : 0);
        transient.Use(_submitted);
        foreach (MemoryUse use in uses) use.Memory.Use(_submitted, use.IsWritten);
    }

    /// <summary>Under the lock.</summary>
    private void CommitOpen()
    {
        if (_open == 0) return;
        _runtime.Commit();
        (_openCost, _openLaunches) = (0, 0);
        Volatile.Write(ref _open, 0);
    }

    /// <summary>Before waiting: what is open never ends.</summary>
    private void CommitUpTo(long submission)
    {
        long open = Volatile.Read(ref _open);
        if (open == 0 || submission < open) return;
        lock (_submitting)
        {
            if (_open == open) CommitOpen();
        }
    }

    /// <summary>The batches that a thread has open on a device, one within the other.</summary>
    private sealed class ThreadBatch
    {
        public MetalDevice? Device { get; private set; }

        public ThreadBatch? Next { get; private init; }

        public int Depth { get; set; }

        public TransientPool.Rental? Transient { get; set; }

        /// <summary>One of the thread's that is over, or a new one.</summary>
        public static ThreadBatch For(MetalDevice device)
        {
            ThreadBatch? batch = _ofThread;
            while (batch is not null && batch.Depth > 0) batch = batch.Next;
            batch ??= _ofThread = new() { Next = _ofThread };
            batch.Device = device;
            return batch;
        }

        public void GiveBack()
        {
            Transient?.Dispose();
            Transient = null;
        }
    }
}
