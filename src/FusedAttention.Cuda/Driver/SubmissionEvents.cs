namespace FusedAttention.Cuda.Driver;

/// <summary>
/// The submissions of a stream that are under way, an event each, and what is known to have ended. They end in the order of their numbers, so events are a ring: used again, and in steady state none is
/// made. Callers have the context current, and are allowed what no graph can have.
/// </summary>
/// <remarks>
/// A failure of work on the device is one of the whole context, for good. It is remembered, and told by every wait from then on; the submissions count as ended, for none of them will run any more.
/// </remarks>
internal sealed class SubmissionEvents(CudaDriver driver) : IDisposable
{
    private readonly Lock _gate = new();

    /// <summary>Submission n at n modulo the length, a power of two. More calls under way than this is are rare.</summary>
    private Entry?[] _ring = new Entry?[32];
    private long _submitted;
    private long _completed;
    private string? _failure;
    private bool _isDisposed;

    /// <summary>Whether all has ended, without asking the driver; then <paramref name="completed"/> is the last number.</summary>
    public bool IsIdle(out long completed)
    {
        lock (_gate)
        {
            completed = _completed;
            return _completed == _submitted;
        }
    }

    /// <summary>Records an event behind what was queued on the stream.</summary>
    /// <returns>The number of the submission that this ends.</returns>
    /// <exception cref="CudaException">Work on the device failed.</exception>
    public long Record(nint stream)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_submitted - _completed == _ring.Length)
            {
                Look();
                if (_submitted - _completed == _ring.Length) Grow();
            }

            ThrowIfFailed();
            ref Entry? entry = ref _ring[(_submitted + 1) & (_ring.Length - 1)];
            if (entry is not { Waiters: 0 })
            {
                // Somebody is still waiting with the event of long ago: it is his now.
                Entry made = new(driver.EventCreate());
                if (entry is not null) entry.IsAbandoned = true;
                entry = made;
            }

            driver.EventRecord(entry.Event, stream);
            return ++_submitted;
        }
    }

    /// <summary>Looks which have ended, without waiting, and throws nothing.</summary>
    /// <returns>The number of the last one that has.</returns>
    public long Poll()
    {
        lock (_gate)
        {
            Look();
            return _completed;
        }
    }

    /// <summary>Says that the context has failed, where somebody else has noticed.</summary>
    public void Fail(string failure)
    {
        lock (_gate)
        {
            _failure ??= failure;
            _completed = _submitted;
        }
    }

    /// <summary>Waits on this thread until a submission has ended.</summary>
    /// <exception cref="CudaException">Work on the device failed.</exception>
    public void Wait(long number)
    {
        Entry entry;
        lock (_gate)
        {
            if (number > _submitted) throw new ArgumentOutOfRangeException(nameof(number), number, $"There are {_submitted} submissions.");
            if (number <= _completed)
            {
                ThrowIfFailed();
                return;
            }

            entry = _ring[number & (_ring.Length - 1)]!;
            entry.Waiters++;
        }

        // Without the lock: others submit and look meanwhile.
        int result = driver.EventSynchronize(entry.Event);
        lock (_gate)
        {
            if (--entry.Waiters == 0 && entry.IsAbandoned) driver.EventDestroy(entry.Event);
            if (result != CudaDriver.Success) Fail(driver.Describe(result, "cuEventSynchronize"));
            else _completed = Math.Max(_completed, number);
            ThrowIfFailed();
        }
    }

    /// <summary>Lets another stream wait on the device for a submission of this one.</summary>
    public void Order(nint stream, long number)
    {
        lock (_gate)
        {
            // What has ended need not be waited for; an event that was used again would be waited for too long.
            if (number > _completed) driver.StreamWaitEvent(stream, _ring[number & (_ring.Length - 1)]!.Event);
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed) return;
            _isDisposed = true;
            _completed = _submitted;
            foreach (Entry? entry in _ring)
            {
                if (entry is null) continue;
                if (entry.Waiters > 0) entry.IsAbandoned = true;
                else driver.EventDestroy(entry.Event);
            }

            _ring = [];
        }
    }

    private void Look()
    {
        while (_completed < _submitted)
        {
            if (driver.EventHasEnded(_ring[(_completed + 1) & (_ring.Length - 1)]!.Event, out int failure))
            {
                _completed++;
                continue;
            }

            if (failure != CudaDriver.Success) Fail(driver.Describe(failure, "cuEventQuery"));
            return;
        }
    }

    private void Grow()
    {
        var grown = new Entry?[2 * _ring.Length];
        for (long number = _completed + 1; number <= _submitted; number++) grown[number & (grown.Length - 1)] = _ring[number & (_ring.Length - 1)];
        _ring = grown;
    }

    private void ThrowIfFailed()
    {
        if (_failure is not null) throw new CudaException($"Work on the GPU failed. {_failure}");
    }

    private sealed class Entry(nint handle)
    {
        public nint Event { get; } = handle;

        /// <summary>Threads that are waiting for it in the driver: until they are back it is neither used again nor destroyed.</summary>
        public int Waiters { get; set; }

        /// <summary>No more in the ring: the last who waits destroys it.</summary>
        public bool IsAbandoned { get; set; }
    }
}
