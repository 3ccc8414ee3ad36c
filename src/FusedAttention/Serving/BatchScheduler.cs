using FusedAttention.Paging.Ledger;

namespace FusedAttention.Serving;

/// <summary>
/// Continuous batching over one paged cache: requests come and go at any step, prompts run in chunks beside decoding, prompts that begin alike are stored once, and when
/// the pool is full the youngest request is put back and computed again later. It decides what runs; the model, and who samples, are the caller's.
/// </summary>
/// <remarks>
/// <para>The loop: <see cref="WaitForWorkAsync"/> returns when there is something to do; <see cref="TryNext"/> says what to run; the caller runs it and samples one token for each of
/// <see cref="BatchStep.LogitRows"/>; <see cref="Complete"/> takes these, or <see cref="Abandon"/> takes the step back.</para>
/// <para>Order: running requests are older than all waiting ones, each takes part in every step, and only the youngest is ever put back. So the oldest always moves on, and every request ends.
/// What is scheduled follows from the order of calls alone.</para>
/// <para>Threads: every method may be called from any thread; one lock serialises them. One thread at a time runs the steps, while others add and cancel requests.</para>
/// <para>Failures: a call that throws has changed nothing but what its documentation says, and the next call finds everything as it should be. Whoever changes a request's sequence in the cache
/// (<see cref="ScheduledRun.Sequence"/>) other than by dropping what a window has passed makes the scheduler compute that request again from its start.</para>
/// </remarks>
public sealed partial class BatchScheduler : IDisposable
{
    private readonly Lock _gate = new();
    private readonly CacheLedger _ledger;
    private readonly BatchStep _step;
    private readonly List<GenerationRequest> _running = [];     // oldest first
    private readonly List<GenerationRequest> _waiting = [];     // oldest first, all younger than those that run
    private long _nextId;
    private StepState _state;
    private long _plannedAt;                                    // the ledger's version in which the step has room
    private bool _isDisposed;

    private BatchScheduler(CacheLedger ledger, PagedBatch batch, BatchSchedulerOptions options)
    {
        _ledger = ledger;
        _step = new(batch);
        Options = options;
    }

    /// <summary>The limits that the scheduler was made with.</summary>
    public BatchSchedulerOptions Options { get; }

    /// <summary>Requests that hold blocks.</summary>
    public int RunningCount
    {
        get { lock (_gate) return _running.Count; }
    }

    /// <summary>Requests that wait for blocks.</summary>
    public int WaitingCount
    {
        get { lock (_gate) return _waiting.Count; }
    }

    /// <summary>Whether any request has not ended.</summary>
    public bool HasWork
    {
        get { lock (_gate) return _running.Count + _waiting.Count > 0; }
    }

    /// <summary>How often a request was put back because the pool was full.</summary>
    public long Preemptions { get; private set; }

    /// <summary>Tokens that requests found in the cache instead of computing them.</summary>
    public long SharedTokens { get; private set; }

    /// <summary>Tokens that completed steps have computed; those computed again after a preemption count again.</summary>
    public long ComputedTokens { get; private set; }

    /// <summary>A scheduler that serves requests out of a cache. Several may share one, and other sequences may live beside theirs.</summary>
    /// <param name="cache">The cache; the scheduler does not dispose it.</param>
    /// <param name="options">Limits; null for the defaults.</param>
    public static BatchScheduler Create(KeyValueCache cache, BatchSchedulerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(cache);
        return new(cache.Ledger, cache.CreateBatch(), options ?? new());
    }

    /// <summary>Takes on a request. It waits behind those that came before it.</summary>
    /// <param name="prompt">Its tokens, 1 or more; they are copied.</param>
    /// <param name="maxNewTokens">How many tokens to generate at most; 1 or more.</param>
    /// <param name="stopTokens">Tokens after which the request is finished; they become part of its text.</param>
    /// <exception cref="ArgumentException">The prompt is empty, or the whole pool could not hold the request.</exception>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="maxNewTokens"/> is below 1.</exception>
    /// <exception cref="ObjectDisposedException">The scheduler is disposed.</exception>
    public GenerationRequest Add(ReadOnlySpan<int> prompt, int maxNewTokens, params ReadOnlySpan<int> stopTokens)
    {
        if (prompt.IsEmpty) throw new ArgumentException("The prompt is empty; a model needs a token to start from.", nameof(prompt));
        ArgumentOutOfRangeException.ThrowIfLessThan(maxNewTokens, 1);

        // The last token that is generated is never run, so it needs no place.
        long capacity = (long)_ledger.TotalBlocks * _ledger.BlockSize;
        long longest = (long)prompt.Length + maxNewTokens - 1;
        if (longest > capacity)
            throw new ArgumentException($"{prompt.Length} prompt tokens and {maxNewTokens} new ones need room for {longest}, but the whole cache has {_ledger.TotalBlocks} blocks of {_ledger.BlockSize}.", nameof(maxNewTokens));
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            var request = new GenerationRequest(this, _nextId++, prompt, maxNewTokens, stopTokens);
            _waiting.Add(request);
            WakeWaiters();
            return request;
        }
    }

    /// <summary>
    /// Ends a request: because nobody wants it any more, or because the caller has seen a reason of its own, such as a stop string. During a step its blocks stay until the step ends, and the
    /// token sampled for it is dropped.
    /// </summary>
    /// <param name="request">A request of this scheduler.</param>
    /// <returns>False if it had ended already.</returns>
    /// <exception cref="ArgumentException">The request is another scheduler's.</exception>
    public bool Cancel(GenerationRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Owner != this) throw new ArgumentException("The request belongs to another scheduler.", nameof(request));
        lock (_gate)
        {
            if (request.HasEnded) return false;
            (request.State == GenerationState.Running ? _running : _waiting).Remove(request);
            request.State = GenerationState.Cancelled;
            if (!request.InStep) Release(request);
            WakeWaiters();
            return true;
        }
    }

    /// <summary>Cancels all requests and frees their blocks. Call it when no step runs, and before the cache is disposed.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed) return;
            _isDisposed = true;
            foreach (GenerationRequest request in _running) request.State = GenerationState.Cancelled;
            foreach (GenerationRequest request in _waiting) request.State = GenerationState.Cancelled;
            foreach (GenerationRequest request in _running) Release(request);
            EndStep();
            _running.Clear();
            _waiting.Clear();
            WakeWaiters();
        }
    }
}
