using System.Diagnostics.CodeAnalysis;
using FusedAttention.Paging.Ledger;

namespace FusedAttention.Serving;

/// <summary>
/// Continuous batching: decides in every step which tokens of which requests run, over one <see cref="KeyValueCache"/>, wherever that has its memory. It knows no model and computes nothing.
/// </summary>
/// <remarks>
/// <para>The loop of an engine: <see cref="WaitForWorkAsync"/>, <see cref="TryNext"/>, the model over the step's tokens, <see cref="Complete"/> with the sampled tokens; or <see cref="Abandon"/> if the model failed.</para>
/// <para>Every running request gets at least one token in every step. When blocks run out, the last in order (youngest, lowest priority) goes back to the queue with all its tokens, so the first
/// always moves on; and nobody in the queue is overtaken more often than a bound: every request ends. The steps follow from the calls alone, and where requests have a time limit, from the clock.</para>
/// <para>Threads: every method may be called from any thread; steps are planned and completed one after the other.</para>
/// </remarks>
public sealed partial class BatchScheduler : IDisposable
{
    private readonly Lock _gate = new();
    private readonly CacheLedger _ledger;
    private readonly BatchStep _step;
    private readonly PrefixSharing _prefixes;
    private readonly StepPlanner _planner;
    private readonly DeadlineQueue _deadlines;
    private long _nextId;
    private StepState _state;
    private long _plannedAt;                                    // the ledger's version in which the step has room
    private bool _isStopping;
    private bool _isDisposed;

    private BatchScheduler(CacheLedger ledger, PagedBatch batch, BatchSchedulerOptions options)
    {
        _ledger = ledger;
        _step = new(batch);
        _prefixes = new(ledger, options);
        _planner = new(ledger, options, _prefixes);
        _deadlines = new(options.TimeProvider);
        Options = options;
    }

    /// <summary>The limits that the scheduler was made with.</summary>
    public BatchSchedulerOptions Options { get; }

    /// <summary>Requests that hold blocks.</summary>
    public int RunningCount
    {
        get { lock (_gate) return _planner.Running.Count; }
    }

    /// <summary>Requests that wait: for blocks, or for a prefix that another one computes.</summary>
    public int WaitingCount
    {
        get { lock (_gate) return _planner.Waiting.Count; }
    }

    /// <summary>Whether any request has not ended.</summary>
    public bool HasWork
    {
        get { lock (_gate) return HasRequests; }
    }

    /// <summary>How often a request was put back because the pool was full.</summary>
    public long Preemptions
    {
        get { lock (_gate) return _planner.Preemptions; }
    }

    /// <summary>Tokens that requests found in the cache instead of computing them.</summary>
    public long SharedTokens
    {
        get { lock (_gate) return _planner.SharedTokens; }
    }

    /// <summary>Tokens that completed steps have computed; those computed again after a preemption count again.</summary>
    public long ComputedTokens { get; private set; }

    /// <summary>Drafts that steps have run.</summary>
    public long DraftTokens
    {
        get { lock (_gate) return _planner.DraftTokens; }
    }

    /// <summary>Drafts that were right, so that a token came without a step of its own.</summary>
    public long AcceptedDraftTokens { get; private set; }

    private bool HasRequests => _planner.Running.Count + _planner.Waiting.Count > 0;

    /// <summary>A scheduler that serves requests out of a cache. Several may share one, and other sequences may live beside theirs.</summary>
    /// <param name="cache">The cache; the scheduler does not dispose it.</param>
    /// <param name="options">Limits; null for the defaults.</param>
    public static BatchScheduler Create(KeyValueCache cache, BatchSchedulerOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(cache);
        return new(cache.Ledger, cache.CreateBatch(), options ?? new());
    }

    /// <summary>Takes on a request.</summary>
    /// <param name="prompt">Its tokens, 1 or more; they are copied.</param>
    /// <param name="maxNewTokens">How many tokens to generate at most; 0 or more.</param>
    /// <param name="stopTokens">Tokens after which the request is finished; they become part of its text.</param>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="maxNewTokens"/> is negative.</exception>
    /// <inheritdoc cref="Add(ReadOnlySpan{int}, GenerationOptions)"/>
    public GenerationRequest Add(ReadOnlySpan<int> prompt, int maxNewTokens, params ReadOnlySpan<int> stopTokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(maxNewTokens);
        return Add(prompt, new() { MaxNewTokens = maxNewTokens, StopTokens = [.. stopTokens] }, nameof(maxNewTokens));
    }

    /// <summary>Takes on a request. It waits behind those of its priority that came before it.</summary>
    /// <param name="prompt">Its tokens, 1 or more; they are copied.</param>
    /// <param name="options">What it wants.</param>
    /// <exception cref="ArgumentException">The prompt is empty, or the whole pool could not hold the request.</exception>
    /// <exception cref="RequestRefusedException">As many requests wait as may, or the scheduler takes no more.</exception>
    /// <exception cref="ObjectDisposedException">The scheduler is disposed.</exception>
    public GenerationRequest Add(ReadOnlySpan<int> prompt, GenerationOptions options) => Add(prompt, options, nameof(options));

    /// <summary>Takes on a request, or says why not.</summary>
    /// <param name="prompt">Its tokens, 1 or more; they are copied.</param>
    /// <param name="options">What it wants.</param>
    /// <param name="request">The request, if it was taken on.</param>
    /// <returns>Why it was not; <see cref="RequestRefusal.None"/> if it was.</returns>
    /// <exception cref="ArgumentException">The prompt is empty.</exception>
    public RequestRefusal TryAdd(ReadOnlySpan<int> prompt, GenerationOptions options, out GenerationRequest? request)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (prompt.IsEmpty) throw new ArgumentException("The prompt is empty; a model needs a token to start from.", nameof(prompt));
        request = null;
        if (!CanHold(LongestContext(prompt.Length, options))) return RequestRefusal.TooLong;

        // A prompt's keys are computed by whoever brings it: neither a step nor the lock waits for them.
        var keys = new PrefixKeys(_ledger.BlockSize, PrefixKey.Identity(options.PrefixIdentity));
        if (Options.SharePrefixes && options.SharePrefix) keys.Extend(prompt);
        lock (_gate)
        {
            if (_isDisposed || _isStopping) return RequestRefusal.Stopping;
            if (_planner.Waiting.Count >= Options.MaxWaitingRequests) return RequestRefusal.QueueFull;
            request = new GenerationRequest(this, _nextId++, prompt, options, keys);
            _planner.Waiting.Add(request);
            _deadlines.Add(request);
            WakeWaiters();
            return RequestRefusal.None;
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
        ThrowIfForeign(request);
        lock (_gate)
        {
            if (request.HasEnded) return false;
            End(request, FinishReason.Cancelled);
            WakeWaiters();
            return true;
        }
    }

    /// <summary>Takes no more requests. Those that it has go on to their ends; when the last one has ended, <see cref="WaitForWorkAsync"/> returns false.</summary>
    public void StopAccepting()
    {
        lock (_gate)
        {
            _isStopping = true;
            WakeWaiters();
        }
    }

    /// <summary>Cancels all requests and frees their blocks. Call it when no step runs, and before the cache is disposed.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_isDisposed) return;
            _isDisposed = true;
            EndStep();
            _planner.PutBackAll();
            while (_planner.Waiting.First is { } request) End(request, FinishReason.Cancelled);
            WakeWaiters();
        }
    }

    private GenerationRequest Add(ReadOnlySpan<int> prompt, GenerationOptions options, string limit)
    {
        RequestRefusal refusal = TryAdd(prompt, options, out GenerationRequest? request);
        ObjectDisposedException.ThrowIf(refusal == RequestRefusal.Stopping && _isDisposed, this);
        return refusal switch
        {
            RequestRefusal.None => request!,
            RequestRefusal.TooLong => throw new ArgumentException(
                $"{prompt.Length} prompt tokens and {options.MaxNewTokens} new ones need room for {LongestContext(prompt.Length, options)}, but the whole cache has {_ledger.TotalBlocks} blocks of {_ledger.BlockSize}.",
                limit),
            RequestRefusal.QueueFull => throw new RequestRefusedException(refusal, $"{Options.MaxWaitingRequests} requests wait already, as many as may."),
            _ => throw new RequestRefusedException(refusal, "The scheduler ends the requests that it has and takes no more."),
        };
    }

    private void ThrowIfForeign([NotNull] GenerationRequest? request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Owner != this) throw new ArgumentException("The request belongs to another scheduler.", nameof(request));
    }

    /// <summary>Tokens that are in the cache at once, at most. The last one that is generated is never run, so it needs no place.</summary>
    private static long LongestContext(int promptLength, GenerationOptions options) => promptLength + Math.Max(0L, options.MaxNewTokens - 1L);

    private bool CanHold(long tokens) => tokens <= (long)_ledger.TotalBlocks * _ledger.BlockSize || (tokens <= int.MaxValue && _planner.MostBlocks <= _ledger.TotalBlocks);

    /// <summary>Ends a request that is not complete.</summary>
    private void End(GenerationRequest request, FinishReason reason)
    {
        bool runs = request.State == GenerationState.Running;
        if (!runs) _planner.Waiting.Remove(request);
        request.End(reason);
        if (runs) _planner.Running.CountOut();
        if (!request.InStep) _planner.Release(request);
        if (reason != FinishReason.DeadlineExceeded) _deadlines.CountOut(request);
    }
}
