namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// Memory that the system is asked to leave where the GPU reaches it, also while nothing runs (MTLResidencySet, macOS 15): without that it takes the memory of a process that has been idle for about a second out of the GPU's tables,
/// and the next call waits for all of it (63 ms a token became 318 on an M4 Pro, as others measured: llama.cpp 10119 and 11427). Since macOS 26 a request wears off too, so it is made again every half second, for as long as the device is
/// in use and <see cref="KeptSeconds"/> longer: then the memory is anybody's.
/// </summary>
internal sealed unsafe class Residency : IDisposable
{
    /// <summary>Somebody who reads an answer before typing the next question is back by then.</summary>
    public const int KeptSeconds = 180;

    private const int HeartbeatMilliseconds = 500;

    private readonly Lock _gate = new();
    private readonly NativeObject _set;

    /// <summary>Held here, so that what nobody disposes is still there when the finaliser of the memory takes it out.</summary>
    private readonly HashSet<NativeObject> _kept = [];
    private readonly long _mostBytes;
    private readonly TimeProvider _time;
    private readonly ITimer _heartbeat;
    private long _lastUse;
    private long _bytes;
    private bool _beats;
    private bool _isDisposed;

    private Residency(NativeObject set, long mostBytes, TimeProvider time)
    {
        _set = set;
        _mostBytes = mostBytes;
        _time = time;
        _heartbeat = time.CreateTimer(static state => ((Residency)state!).Beat(), this, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
    }

    /// <summary>An empty set; null where the system has none, or gives none: it is a matter of speed alone. In a pool.</summary>
    public static Residency? Of(nint device, TimeProvider time)
    {
        nint type;
        fixed (byte* name = "MTLResidencySetDescriptor"u8) type = Native.GetClass(name);
        if (type == 0 || Messages.Ask(device, Selectors.RespondsToSelector, Selectors.NewResidencySet) == 0) return null;
        using NativeObject descriptor = NativeObject.Create(type, "the description of a residency set");
        using NativeObject.Lease described = descriptor.Use();
        nint error = 0;
        nint set = Messages.Get(device, Selectors.NewResidencySet, described.Id, &error);
        return set == 0 ? null : new(NativeObject.Own(set, "a residency set"), Messages.Get(device, Selectors.RecommendedMaxWorkingSetSize), time);
    }

    /// <summary>What is submitted to a queue finds the memory there.</summary>
    public void Attach(nint queue)
    {
        using NativeObject.Lease set = _set.Use();
        Messages.Call(queue, Selectors.AddResidencySet, set.Id);
    }

    /// <summary>Keeps a buffer, unless the system recommends to use less than there is then.</summary>
    /// <returns>Whether <see cref="Remove"/> is to be called when it goes.</returns>
    public bool Add(NativeObject buffer, long bytes)
    {
        lock (_gate)
        {
            if (_isDisposed || _bytes + bytes > _mostBytes) return false;
            using AutoreleasePool pool = AutoreleasePool.Open();
            using NativeObject.Lease set = _set.Use();
            using NativeObject.Lease allocation = buffer.Use();
            Messages.Call(set.Id, Selectors.AddAllocation, allocation.Id);
            Messages.Call(set.Id, Selectors.Commit);
            _bytes += bytes;
            _kept.Add(buffer);
            Use(isNew: true);
            return true;
        }
    }

    /// <summary>Lets go of a buffer that was added.</summary>
    public void Remove(NativeObject buffer, long bytes)
    {
        lock (_gate)
        {
            if (_isDisposed || !_kept.Remove(buffer) || buffer.IsClosed || _set.IsClosed) return;
            using AutoreleasePool pool = AutoreleasePool.Open();
            using NativeObject.Lease set = _set.Use();
            using NativeObject.Lease allocation = buffer.Use();
            Messages.Call(set.Id, Selectors.RemoveAllocation, allocation.Id);
            Messages.Call(set.Id, Selectors.Commit);
            _bytes -= bytes;
            if (_bytes == 0) Rest(set.Id);
        }
    }

    /// <summary>The device is in use. The first time after a rest this asks for the memory, ahead of the work that is coming.</summary>
    public void Use()
    {
        lock (_gate)
        {
            if (!_isDisposed && _bytes > 0) Use(isNew: false);
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed) return;
            _isDisposed = true;
            _heartbeat.Dispose();
            _set.Dispose();
        }
    }

    /// <summary>Under the lock.</summary>
    private void Use(bool isNew)
    {
        _lastUse = _time.GetTimestamp();
        if (_beats && !isNew) return;
        Request();
        if (!_beats) _heartbeat.Change(TimeSpan.FromMilliseconds(HeartbeatMilliseconds), TimeSpan.FromMilliseconds(HeartbeatMilliseconds));
        _beats = true;
    }

    /// <summary>On a thread of the system's.</summary>
    private void Beat()
    {
        lock (_gate)
        {
            if (_isDisposed || !_beats) return;
            if (_time.GetElapsedTime(_lastUse).TotalSeconds < KeptSeconds)
            {
                Request();
                return;
            }

            using NativeObject.Lease set = _set.Use();
            Rest(set.Id);
        }
    }

    private void Request()
    {
        using AutoreleasePool pool = AutoreleasePool.Open();
        using NativeObject.Lease set = _set.Use();
        Messages.Call(set.Id, Selectors.RequestResidency);
    }

    private void Rest(nint set)
    {
        using AutoreleasePool pool = AutoreleasePool.Open();
        Messages.Call(set, Selectors.EndResidency);
        _heartbeat.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        _beats = false;
    }
}
