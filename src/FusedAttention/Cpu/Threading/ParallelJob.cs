using System.Runtime.ExceptionServices;

namespace FusedAttention.Cpu.Threading;

/// <summary>
/// Work in numbered items for <see cref="WorkerPool"/>. The caller owns the object, fills in its fields, runs it, and may run it again: a run allocates
/// nothing.
/// </summary>
internal abstract class ParallelJob
{
    private readonly ParkingSpot _lastHelperLeft = new();
    private PaddedInt64 _next; // 64 bits: every participant counts once past the end, which would overflow near 2^31 items
    private int _items;
    private CancellationToken _token;
    private ExceptionDispatchInfo? _failure;
    private volatile bool _cancelled;

    // The rest is guarded by the pool's gate.
    private int[] _returnedSlots = [];
    private int _returnedSlotCount;
    private int _slotsTaken;
    private int _maxParallelism;
    private int _helpers;
    private bool _isOpen;
    private bool _isInUse;

    internal ParallelJob? PreviousOpen { get; set; }

    internal ParallelJob? NextOpen { get; set; }

    /// <summary>Threads in the job now, the caller included.</summary>
    internal int Participants => 1 + _helpers;

    /// <summary>How many more threads would find an item to start.</summary>
    internal int Wanted => (int)Math.Max(0, Math.Min(_maxParallelism - Participants, _items - Volatile.Read(ref _next.Value)));

    /// <summary>Does one item.</summary>
    /// <param name="item">The item: each of 0 to items - 1 is started once, in this order.</param>
    /// <param name="worker">
    /// A number below <see cref="WorkerPool.Participants"/> that no other thread in the job has at this moment; 0 is the calling thread. It names the scratch
    /// memory that this thread may use. A thread keeps its number while it stays in the job.
    /// </param>
    protected abstract void RunItem(int item, int worker);

    /// <summary>All items on the calling thread, without a pool.</summary>
    internal void RunAlone(int items, CancellationToken token)
    {
        for (int item = 0; item < items; item++)
        {
            token.ThrowIfCancellationRequested();
            RunItem(item, 0);
        }
    }

    /// <summary>Starts items until none is left. The caller (slot 0) stays to the end; helpers leave when too many threads run.</summary>
    internal void Work(int slot, WorkerPool pool)
    {
        long roomSince = 0;
        try
        {
            while (slot == 0 || !pool.IsCrowded)
            {
                long item = Interlocked.Increment(ref _next.Value) - 1;
                if (item >= _items) return;
                if (_token.IsCancellationRequested)
                {
                    _cancelled = true;
                    StartNoMore();
                    return;
                }

                RunItem((int)item, slot);
                if (slot != 0) continue;
                if (pool.HasRoom && Wanted > 0) pool.Recruit(ref roomSince);
                else roomSince = 0;
            }
        }
        catch (Exception exception)
        {
            Interlocked.CompareExchange(ref _failure, ExceptionDispatchInfo.Capture(exception), null);
            StartNoMore();
        }
    }

    /// <summary>Makes the job ready for at most <paramref name="maxParallelism"/> - 1 helpers. Under the pool's gate.</summary>
    internal void Open(int items, int maxParallelism, CancellationToken token)
    {
        if (_isInUse) throw new InvalidOperationException("This job is running already.");
        _isInUse = true;
        _isOpen = true;
        if (_returnedSlots.Length < maxParallelism - 1) _returnedSlots = new int[maxParallelism - 1]; // in the job's first run
        _items = items;
        _maxParallelism = maxParallelism;
        _token = token;
        _slotsTaken = 1;
        _returnedSlotCount = 0;
        _lastHelperLeft.Reset();
        Volatile.Write(ref _next.Value, 0);
    }

    /// <summary>Takes a helper in and gives it a slot. Under the pool's gate, while <see cref="Wanted"/> is above 0.</summary>
    internal int Join()
    {
        _helpers++;
        return _returnedSlotCount > 0 ? _returnedSlots[--_returnedSlotCount] : _slotsTaken++;
    }

    /// <summary>Lets a helper go; true when it must call <see cref="SignalCaller"/>. Under the pool's gate.</summary>
    internal bool Leave(int slot)
    {
        _helpers--;
        if (!_isOpen) return _helpers == 0;
        _returnedSlots[_returnedSlotCount++] = slot; // it may have left for lack of processors, not of items: somebody else can come later
        return false;
    }

    /// <summary>Lets no more helpers in; true when some are still inside. Under the pool's gate.</summary>
    internal bool Close()
    {
        _isOpen = false;
        return _helpers > 0;
    }

    internal void SignalCaller() => _lastHelperLeft.Signal();

    internal void WaitForHelpers(long spinTicks) => _lastHelperLeft.Wait(spinTicks);

    /// <summary>Makes the job reusable and reports how the run ended. Nobody but the caller is in the job any more.</summary>
    internal void Finish()
    {
        ExceptionDispatchInfo? failure = _failure;
        CancellationToken token = _token;
        bool cancelled = _cancelled;
        _failure = null;
        _token = default;
        _cancelled = false;
        _isInUse = false;
        failure?.Throw();
        if (cancelled) throw new OperationCanceledException(token);
    }

    private void StartNoMore() => Volatile.Write(ref _next.Value, _items);
}
