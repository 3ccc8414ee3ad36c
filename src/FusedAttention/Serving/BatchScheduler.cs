using FusedAttention.Paging;

namespace FusedAttention.Serving;

/// <summary>
/// Continuous batching over one paged cache: requests come and go at any step, prompts run in chunks beside decoding, prompts that begin alike are stored once, and when
/// the pool is full the youngest request is put back and computed again later. It decides what runs; the model, and who samples, are the caller's.
/// </summary>
/// <remarks>
/// <para>The loop: <see cref="Next"/> says what to run; the caller runs it and samples one token for each of <see cref="BatchStep.LogitRows"/>; <see cref="Complete"/> takes these, or
/// <see cref="Abandon"/> takes the step back.</para>
/// <para>Order: running requests are older than all waiting ones, each takes part in every step, and only the youngest is ever put back. So the oldest always moves on, and every request ends.
/// What is scheduled follows from the order of calls alone.</para>
/// <para>Threads: every method may be called from any thread; one lock serialises them. One thread at a time runs the steps, while others add and cancel requests.</para>
/// </remarks>
public sealed partial class BatchScheduler : IDisposable
{
    private readonly Lock _gate = new();
    private readonly CacheLedger _ledger;
    private readonly BatchStep _step;
    private readonly List<GenerationRequest> _running = [];     // oldest first
    private readonly List<GenerationRequest> _waiting = [];     // oldest first, all younger than those that run
    private long _nextId;
    private bool _isStepOut;
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
    /// <typeparam name="T">Element type of the cache.</typeparam>
    public static BatchScheduler Create<T>(PagedKeyValueCache<T> cache, BatchSchedulerOptions? options = null)
        where T : unmanaged
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
            return true;
        }
    }

    /// <summary>
    /// Plans the next step and makes room for it in the cache: running requests first, oldest first; then waiting ones, as long as tokens and blocks suffice.
    /// </summary>
    /// <returns>
    /// The step. It is empty, and needs no <see cref="Complete"/>, when there is no work, or when sequences outside of this scheduler hold the blocks that its oldest request needs.
    /// </returns>
    /// <exception cref="InvalidOperationException">The last step was neither completed nor abandoned.</exception>
    /// <exception cref="OutOfBlocksException">Another user of the cache took blocks in between. No step is under way and nothing is lost: call again.</exception>
    /// <exception cref="ObjectDisposedException">The scheduler or the cache is disposed.</exception>
    public BatchStep Next()
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_isStepOut) throw new InvalidOperationException("The last step was neither completed nor abandoned.");
            _step.Clear();
            try
            {
                Plan();
                _ledger.Extend(_step.Sequences, _step.Counts);
                _isStepOut = !_step.IsEmpty;
                foreach (ScheduledRun run in _step.Runs)
                {
                    run.Request.InStep = true;
                    _step.Batch.Add(run.Sequence, run.TokenCount);
                }
            }
            catch
            {
                EndStep();
                throw;
            }

            return _step;
        }
    }

    /// <summary>Ends the step: its tokens' keys and values are in the cache, in all layers, and a token was sampled after each of its logit rows.</summary>
    /// <param name="sampledTokens">One token for each of <see cref="BatchStep.LogitRows"/>, in that order.</param>
    /// <exception cref="ArgumentException">There are more or fewer tokens; the step is still under way.</exception>
    /// <exception cref="InvalidOperationException">No step is under way.</exception>
    public void Complete(ReadOnlySpan<int> sampledTokens)
    {
        lock (_gate)
        {
            ThrowIfNoStep();
            if (sampledTokens.Length != _step.LogitRows.Length)
                throw new ArgumentException($"{sampledTokens.Length} tokens were given, but the step has {_step.LogitRows.Length} rows to sample after.", nameof(sampledTokens));
            foreach (ScheduledRun run in _step.Runs)
            {
                GenerationRequest request = run.Request;
                request.Computed += run.TokenCount;
                ComputedTokens += run.TokenCount;
                if (Options.SharePrefixes && request.Computed / _ledger.BlockSize > run.Position / _ledger.BlockSize)
                    _ledger.Publish(request.Sequence, request.Tokens[..request.Computed]);
                if (request.State == GenerationState.Running && run.NeedsLogits && request.Append(sampledTokens[run.LogitIndex]))
                    request.State = GenerationState.Finished;
            }

            EndStep();
        }
    }

    /// <summary>Takes the step back, as if it had never been planned: for a model that failed in the middle of it. Its requests run again with the next step.</summary>
    /// <exception cref="InvalidOperationException">No step is under way.</exception>
    public void Abandon()
    {
        lock (_gate)
        {
            ThrowIfNoStep();
            EndStep();
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
        }
    }

    private void ThrowIfNoStep()
    {
        if (!_isStepOut) throw new InvalidOperationException("No step is under way: Next starts one.");
    }

    /// <summary>Leaves each sequence with what is computed, and those that ended with nothing.</summary>
    private void EndStep()
    {
        _isStepOut = false;
        foreach (ScheduledRun run in _step.Runs)
        {
            GenerationRequest request = run.Request;
            request.InStep = false;
            if (request.HasEnded) Release(request);
            else if (_ledger.Length(request.Sequence) > request.Computed) _ledger.Truncate(request.Sequence, request.Computed);
        }

        _running.RemoveAll(static request => request.HasEnded);
        _step.Clear();
    }

    private void Release(GenerationRequest request)
    {
        // A cache that was disposed first has no sequences any more.
        if (_ledger.Contains(request.Sequence)) _ledger.Free(request.Sequence);
        request.Sequence = default;
        request.Computed = 0;
    }
}
