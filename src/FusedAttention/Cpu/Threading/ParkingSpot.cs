using System.Diagnostics;

namespace FusedAttention.Cpu.Threading;

/// <summary>
/// Where one thread waits for one signal: it watches its own cache line for a while, then sleeps on a monitor. Signalling a watcher is one exchange
/// (tens of nanoseconds), a sleeper a system call (a few microseconds). Neither side allocates.
/// </summary>
internal sealed class ParkingSpot
{
    private const int Empty = 0;
    private const int Parked = 1;
    private const int Signalled = 2;

    private readonly object _gate = new();
    private PaddedInt32 _state;

    /// <summary>Whether a signal would have to wake a sleeper. Only a hint: the answer may be old when it arrives.</summary>
    public bool IsParked => Volatile.Read(ref _state.Value) == Parked;

    /// <summary>Forgets the last signal. Only while nobody can be signalling.</summary>
    public void Reset() => Volatile.Write(ref _state.Value, Empty);

    public void Signal()
    {
        // The waiter may see the exchange and be gone, even waiting for the next signal, before the pulse: it then wakes, sees no signal and sleeps on.
        if (Interlocked.Exchange(ref _state.Value, Signalled) != Parked) return;
        Uninterrupted.Enter(_gate);
        Monitor.Pulse(_gate);
        Monitor.Exit(_gate);
    }

    /// <summary>Waits for the signal, at first awake, for as long as <paramref name="spinTicks"/> of the stopwatch.</summary>
    public void Wait(long spinTicks)
    {
        if (spinTicks > 0 && Spin(spinTicks)) return;
        if (Interlocked.CompareExchange(ref _state.Value, Parked, Empty) == Signalled) return;

        bool interrupted = false;
        Uninterrupted.Enter(_gate);
        while (Volatile.Read(ref _state.Value) != Signalled) interrupted |= Uninterrupted.Wait(_gate);
        Monitor.Exit(_gate);
        if (interrupted) Thread.CurrentThread.Interrupt();
    }

    private bool Spin(long ticks)
    {
        long start = Stopwatch.GetTimestamp();
        do
        {
            // 8 normalised iterations are some 0.3 us: short beside a wake-up, long beside the 25 ns of reading the clock.
            for (int i = 0; i < 4; i++)
            {
                if (Volatile.Read(ref _state.Value) == Signalled) return true;
                Thread.SpinWait(8);
            }
        }
        while (Stopwatch.GetTimestamp() - start < ticks);
        return Volatile.Read(ref _state.Value) == Signalled;
    }
}
