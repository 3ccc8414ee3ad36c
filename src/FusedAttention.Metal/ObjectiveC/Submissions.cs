using FusedAttention.Metal.Launching;

namespace FusedAttention.Metal.ObjectiveC;

/// <summary>
/// The command buffers under way, oldest first, and what became of those that failed. The queue is serial, so they end in the order of their numbers.
/// </summary>
/// <remarks>
/// Whether a buffer has ended is asked of its status, not told by a handler: a handler would be an Objective-C block, called on a thread that the runtime does not know, and all that it would
/// change is when memory is given back.
/// </remarks>
internal sealed class Submissions
{
    /// <summary>MTLCommandBufferStatusCompleted; one more is an error, and nothing lies beyond.</summary>
    private const nint StatusCompleted = 4;

    /// <summary>Failures that somebody may still ask for by number. Beyond this many the oldest are forgotten: by then everything fails.</summary>
    private const int RememberedFailures = 64;

    private readonly Lock _gate = new();
    private readonly Queue<Entry> _underWay = new();
    private readonly Stack<Entry> _idle = new();
    private readonly SortedDictionary<long, Failure> _failures = [];
    private long _submitted;
    private long _completed;
    private double _workedSeconds;
    private bool _isQueueSpoilt;

    /// <summary>How many are under way, as far as is known.</summary>
    public int Count
    {
        get { lock (_gate) return _underWay.Count; }
    }

    /// <summary>The number of the last one.</summary>
    public long Submitted
    {
        get { lock (_gate) return _submitted; }
    }

    /// <summary>Whether the system takes nothing more from the queue that the last submissions went to, or is about to: <see cref="Interruption"/>.</summary>
    public bool IsQueueSpoilt
    {
        get { lock (_gate) return _isQueueSpoilt; }
    }

    /// <summary>From start to end of all that are known to have ended well, by the GPU's clock.</summary>
    public double WorkedSeconds
    {
        get { lock (_gate) return _workedSeconds; }
    }

    /// <summary>What command buffers may cost, learnt from those that have ended.</summary>
    public CommandBufferBudget Budget { get; } = new();

    /// <summary>For a command buffer that is going to be encoded: <see cref="Add"/> or <see cref="GiveBack"/> takes it back.</summary>
    public Entry Take()
    {
        lock (_gate) return _idle.TryPop(out Entry? entry) ? entry : new();
    }

    /// <summary>The command buffer will not come.</summary>
    public void GiveBack(Entry entry)
    {
        entry.Clear();
        lock (_gate) _idle.Push(entry);
    }

    /// <param name="entry">What it has.</param>
    /// <param name="commandBuffer">Committed; the reference is taken over.</param>
    public long Add(Entry entry, nint commandBuffer)
    {
        lock (_gate)
        {
            (entry.Number, entry.CommandBuffer) = (++_submitted, commandBuffer);
            _underWay.Enqueue(entry);
            return _submitted;
        }
    }

    /// <summary>Says that the next submissions go to a new queue.</summary>
    public void BeginQueue()
    {
        lock (_gate) _isQueueSpoilt = false;
    }

    /// <summary>Looks which have ended, without waiting.</summary>
    /// <returns>The number of the last one that has.</returns>
    public long Poll()
    {
        lock (_gate)
        {
            if (_underWay.Count == 0) return _completed;
            using AutoreleasePool pool = AutoreleasePool.Open();
            while (_underWay.TryPeek(out Entry? head) && Messages.Get(head.CommandBuffer, Selectors.Status) >= StatusCompleted) Retire();
            return _completed;
        }
    }

    /// <summary>Waits until all up to a number have ended, well or not.</summary>
    public void Await(long number)
    {
        while (true)
        {
            long awaited;
            nint commandBuffer;
            lock (_gate)
            {
                if (_completed >= number || !_underWay.TryPeek(out Entry? head)) return;
                awaited = head.Number;
                commandBuffer = Native.Retain(head.CommandBuffer);
            }

            // Without the lock: others submit and look meanwhile, and may retire this one.
            try
            {
                using AutoreleasePool pool = AutoreleasePool.Open();
                Messages.Call(commandBuffer, Selectors.WaitUntilCompleted);
                lock (_gate)
                {
                    if (_underWay.TryPeek(out Entry? now) && now.Number == awaited) Retire();
                }
            }
            finally
            {
                NativeObject.Release(commandBuffer);
            }
        }
    }

    /// <summary>Throws if this one failed, or one before it whose failure nobody has been told.</summary>
    public void ThrowIfFailed(long number)
    {
        lock (_gate)
        {
            if (_failures.Count == 0) return;
            var texts = new List<string>();
            foreach ((long failed, Failure failure) in _failures)
            {
                if (failed > number) break;
                if (failed < number && failure.WasTold) continue;
                texts.Add(failure.Text);
                failure.WasTold = true;
            }

            if (texts.Count > 0) throw new MetalException(string.Join('\n', texts));
        }
    }

    /// <summary>Takes the oldest out, which has ended, and keeps what is to be said of it. Under the lock and in a pool.</summary>
    private void Retire()
    {
        Entry entry = _underWay.Dequeue();
        _completed = entry.Number;
        nint status = Messages.Get(entry.CommandBuffer, Selectors.Status);
        if (status != StatusCompleted)
        {
            string reason = NativeText.Describe(Messages.Get(entry.CommandBuffer, Selectors.Error));
            var interruption = Interruption.Of(reason);
            _failures[entry.Number] = new($"Work on the GPU failed (submission {entry.Number}, status {status}: {string.Join(", ", entry.Kernels)}): {reason} {interruption.Words}".TrimEnd());
            _isQueueSpoilt |= interruption.SpoilsQueue;
            if (interruption.TookTooLong) Budget.Halve();
            if (_failures.Count > RememberedFailures) _failures.Remove(_failures.Keys.First());
        }
        else
        {
            double seconds = Messages.GetSeconds(entry.CommandBuffer, Selectors.GpuEndTime) - Messages.GetSeconds(entry.CommandBuffer, Selectors.GpuStartTime);
            _workedSeconds += seconds;
            Budget.Learn(entry.Cost, seconds);
        }

        Native.Release(entry.CommandBuffer);
        entry.Clear();
        _idle.Push(entry);
    }

    /// <summary>
    /// One command buffer, by a reference of its own that is never handed out: a handle a submission would be the only thing that a warm call allocates. Used again when it has ended.
    /// </summary>
    public sealed class Entry
    {
        public long Number { get; set; }

        public nint CommandBuffer { get; set; }

        public List<string> Kernels { get; } = [];

        public double Cost { get; private set; }

        /// <summary>More launches, for messages and for what is learnt from them.</summary>
        public void Add(ReadOnlySpan<KernelLaunch> launches)
        {
            foreach (KernelLaunch launch in launches)
            {
                Kernels.Add(launch.Function.Name);
                Cost += launch.Cost;
            }
        }

        public void Clear()
        {
            (CommandBuffer, Cost) = (0, 0);
            Kernels.Clear();
        }
    }

    private sealed class Failure(string text)
    {
        public string Text { get; } = text;

        public bool WasTold { get; set; }
    }
}
