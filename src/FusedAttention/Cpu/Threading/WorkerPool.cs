using System.Diagnostics;

namespace FusedAttention.Cpu.Threading;

/// <summary>
/// The threads that share the work of all calls, apart from the .NET thread pool, which belongs to the application. Every calling thread works on its own
/// job; workers join a job only while callers and workers together are fewer than the processors, and leave between two items when new callers come. So many callers
/// at once each do their own work, and one caller gets the whole machine.
/// </summary>
/// <remarks>
/// One gate guards the little that is shared: the list of open jobs, the stack of idle workers and two counts. A thread takes it twice a job (some 20 ns when free)
/// and never while it works. Workers are woken as a tree, at most two sleepers by each thread, so that the caller spends a few microseconds however many processors
/// there are, and the last of n wakes after log2(n) steps.
/// </remarks>
internal sealed class WorkerPool
{
    private const int SleepersWokenAtOnce = 2;

    // About what waking a sleeper costs: whoever waits longer than that loses less by sleeping. Back-to-back calls stay within it.
    private static readonly long SpinTicks = Stopwatch.Frequency * 30 / 1_000_000;

    private static readonly long PatienceTicks = Stopwatch.Frequency * 100 / 1_000_000;

    [ThreadStatic]
    private static WorkerPool? _countedIn; // the pool that counts this thread as running, so that a call inside an item does not count it twice

    private readonly object _gate = new();
    private readonly int _processors;
    private ParallelJob? _openJobs;
    private PoolWorker? _idleWorkers;
    private int _running; // callers and workers in a job; may pass _processors by callers, and for one item by workers
    private int _waking; // workers off the stack that have not asked for a job yet

    /// <param name="workers">Threads beside the calling ones. They start when first wanted.</param>
    public WorkerPool(int workers)
    {
        _processors = workers + 1;
        for (int number = workers; number > 0; number--) _idleWorkers = new PoolWorker(this, number) { Next = _idleWorkers };
    }

    /// <summary>The pool of the process: one thread a processor, the calling one included.</summary>
    public static WorkerPool Shared { get; } = new(Environment.ProcessorCount - 1);

    /// <summary>Whether more threads run than there are processors. Read without the gate, as a reason to go and ask.</summary>
    internal bool IsCrowded => Volatile.Read(ref _running) > _processors;

    /// <summary>Whether a processor has neither a running thread nor one on its way. Read without the gate.</summary>
    internal bool HasRoom => Volatile.Read(ref _running) + Volatile.Read(ref _waking) < _processors;

    /// <summary>How long an idle worker looks out for work before it sleeps: not at all where a caller could use its processor.</summary>
    internal long IdleSpinTicks => Volatile.Read(ref _running) < _processors ? SpinTicks : 0;

    /// <summary>The most threads that <see cref="Run"/> would use, and so the number of scratch areas a job needs: 1 or more.</summary>
    public int Participants(int items, int maxParallelism) => Math.Max(1, Math.Min(Math.Min(items, _processors), maxParallelism == -1 ? _processors : maxParallelism));

    /// <summary>Runs all items of a job, on the calling thread and on idle workers, and returns when all have ended.</summary>
    /// <param name="job">Not running now; free to run again afterwards, however this run ended.</param>
    /// <param name="items">How many; none if 0.</param>
    /// <param name="maxParallelism">The most threads, the calling one included; -1 for as many as there are processors.</param>
    /// <param name="token">Looked at before each item.</param>
    /// <exception cref="OperationCanceledException">An item was not started because the token was cancelled.</exception>
    /// <remarks>After an exception in an item no more items start, and the first exception is thrown here when all threads have left the job.</remarks>
    public void Run(ParallelJob job, int items, int maxParallelism, CancellationToken token)
    {
        int participants = Participants(items, maxParallelism);
        if (participants == 1) job.RunAlone(items, token);
        else RunShared(job, items, participants, token);
    }

    private void RunShared(ParallelJob job, int items, int maxParallelism, CancellationToken token)
    {
        WorkerPool? countedBefore = _countedIn;
        int newcomer = countedBefore == this ? 0 : 1;

        Uninterrupted.Enter(_gate);
        try
        {
            job.Open(items, maxParallelism, token);
        }
        catch
        {
            Monitor.Exit(_gate);
            throw;
        }

        Link(job);
        _running += newcomer;
        PoolWorker? chain = TakeIdleWorkers();
        Monitor.Exit(_gate);

        _countedIn = this;
        PoolWorker.WakeAll(chain);
        job.Work(0, this);
        _countedIn = countedBefore;

        // From here the caller only waits, so its processor is free for somebody else's job: see Recruit.
        Uninterrupted.Enter(_gate);
        Unlink(job);
        bool hasHelpers = job.Close();
        _running -= newcomer;
        Monitor.Exit(_gate);

        if (hasHelpers) job.WaitForHelpers(SpinTicks);
        job.Finish();
    }

    /// <summary>
    /// Wakes workers for the open jobs if there has been room for a while: callers that ended left processors behind. Called by the callers that still
    /// work, between two items. Doing it at once, when a caller ends, costs a quarter of the throughput where as many callers as processors make call after
    /// call: the next call finds its processor taken, and somebody waits for the item of a helper that does not run (1.47 against 1.96 processors' worth on two).
    /// </summary>
    /// <param name="roomSince">When the caller first saw room, or 0. It is the caller's own.</param>
    internal void Recruit(ref long roomSince)
    {
        long now = Stopwatch.GetTimestamp();
        if (roomSince == 0) roomSince = now;
        if (now - roomSince < PatienceTicks) return;

        roomSince = 0;
        Uninterrupted.Enter(_gate);
        PoolWorker? chain = TakeIdleWorkers();
        Monitor.Exit(_gate);
        PoolWorker.WakeAll(chain);
    }

    /// <summary>A worker, awake or done with <paramref name="left"/>, asks for its next job; null when there is none and it is on the stack of idle workers.</summary>
    internal ParallelJob? NextJob(PoolWorker worker, ParallelJob? left, ref int slot)
    {
        bool isLast = false;
        PoolWorker? chain = null;
        Uninterrupted.Enter(_gate);
        if (left is null)
        {
            _waking--;
        }
        else
        {
            _running--;
            isLast = left.Leave(slot);
        }

        ParallelJob? job = _running < _processors ? LoneliestJob() : null;
        if (job is not null)
        {
            slot = job.Join();
            _running++;
            chain = TakeIdleWorkers();
        }
        else
        {
            worker.ExpectSignal();
            worker.Next = _idleWorkers;
            _idleWorkers = worker;
        }

        Monitor.Exit(_gate);
        if (isLast) left!.SignalCaller();
        PoolWorker.WakeAll(chain);
        return job;
    }

    /// <summary>A worker's thread could not be started: it is gone.</summary>
    internal void Lose()
    {
        Uninterrupted.Enter(_gate);
        _waking--;
        Monitor.Exit(_gate);
    }

    /// <summary>The calling thread is a worker of this pool: calls inside its items do not count it again.</summary>
    internal void Attach() => _countedIn = this;

    private void Link(ParallelJob job)
    {
        job.NextOpen = _openJobs;
        if (_openJobs is not null) _openJobs.PreviousOpen = job;
        _openJobs = job;
    }

    private void Unlink(ParallelJob job)
    {
        if (job.PreviousOpen is null) _openJobs = job.NextOpen;
        else job.PreviousOpen.NextOpen = job.NextOpen;
        if (job.NextOpen is not null) job.NextOpen.PreviousOpen = job.PreviousOpen;
        job.NextOpen = job.PreviousOpen = null;
    }

    /// <summary>The job with the fewest threads among those that want more. Only looked for while processors are free, so the list is short.</summary>
    private ParallelJob? LoneliestJob()
    {
        ParallelJob? best = null;
        for (ParallelJob? job = _openJobs; job is not null; job = job.NextOpen)
        {
            if (job.Wanted > 0 && (best is null || job.Participants < best.Participants)) best = job;
        }

        return best;
    }

    /// <summary>
    /// Takes as many workers off the stack as there are free processors and items to start, but only so many sleepers: those wake the next ones when they
    /// join. The caller wakes the chain after leaving the gate.
    /// </summary>
    private PoolWorker? TakeIdleWorkers()
    {
        int free = _processors - _running - _waking;
        if (free <= 0 || _idleWorkers is null || _openJobs is null) return null;

        long wanted = 0;
        for (ParallelJob? job = _openJobs; job is not null; job = job.NextOpen) wanted += job.Wanted;
        wanted = Math.Min(free, wanted - _waking);

        PoolWorker? first = null;
        int sleepers = 0;
        while (wanted-- > 0 && _idleWorkers is not null && sleepers < SleepersWokenAtOnce)
        {
            PoolWorker worker = _idleWorkers;
            _idleWorkers = worker.Next;
            worker.Next = first;
            first = worker;
            _waking++;
            if (worker.IsSlowToWake) sleepers++;
        }

        return first;
    }
}
