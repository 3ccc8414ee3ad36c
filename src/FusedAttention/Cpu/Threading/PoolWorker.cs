namespace FusedAttention.Cpu.Threading;

/// <summary>One thread of a <see cref="WorkerPool"/>: it is started when it is first wanted and lives as long as the process.</summary>
internal sealed class PoolWorker(WorkerPool pool, int number)
{
    private readonly ParkingSpot _spot = new();
    private bool _isStarted;

    /// <summary>The next worker down the stack of idle ones, or in a chain about to be woken.</summary>
    public PoolWorker? Next { get; set; }

    /// <summary>Whether <see cref="WakeAll"/> needs a system call for it.</summary>
    public bool IsSlowToWake => !_isStarted || _spot.IsParked;

    /// <summary>Wakes the workers of a chain that the pool handed out.</summary>
    public static void WakeAll(PoolWorker? chain)
    {
        while (chain is not null)
        {
            PoolWorker worker = chain;
            chain = worker.Next; // before it wakes and goes back to the stack
            worker.Next = null;
            if (worker._isStarted) worker._spot.Signal();
            else worker.Start();
        }
    }

    /// <summary>Before it goes on the stack of idle workers, under the pool's gate: after that it may be signalled.</summary>
    public void ExpectSignal() => _spot.Reset();

    private void Start()
    {
        _isStarted = true;
        var thread = new Thread(Live) { IsBackground = true, Name = $"FusedAttention worker {number}" };
        try
        {
            thread.UnsafeStart(); // the first caller's execution context is not the pool's business
        }
        catch (OutOfMemoryException)
        {
            pool.Lose(); // no memory or no more threads allowed: the others do its work
        }
    }

    private void Live()
    {
        pool.Attach();
        while (true)
        {
            Help();
            _spot.Wait(pool.IdleSpinTicks);
        }
    }

    /// <summary>Works for one job after the other while any wants it. A method of its own, so that a sleeping worker keeps no job alive.</summary>
    private void Help()
    {
        ParallelJob? job = null;
        int slot = 0;
        while ((job = pool.NextJob(this, job, ref slot)) is not null) job.Work(slot, pool);
    }
}
