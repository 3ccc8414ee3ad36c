using System.Diagnostics.CodeAnalysis;

namespace FusedAttention.Serving;

/// <content>Planning a step, and what comes of it.</content>
public sealed partial class BatchScheduler
{
    private enum StepState
    {
        /// <summary>No step is under way.</summary>
        None,

        /// <summary><see cref="Next"/> had nothing to run. That step may be completed, but need not be.</summary>
        Empty,

        /// <summary>The step must be completed or abandoned.</summary>
        Out,
    }

    /// <summary>
    /// Plans the next step and makes room for it in the cache: running requests first, in their order; then waiting ones, as long as tokens and blocks suffice.
    /// </summary>
    /// <returns>
    /// The step. It is empty when there is no work, when the scheduler is paused, or when sequences outside of this scheduler hold the blocks that its first request needs. An empty step needs no <see cref="Complete"/>, but takes one with
    /// no tokens.
    /// </returns>
    /// <exception cref="InvalidOperationException">The last step was neither completed nor abandoned.</exception>
    /// <exception cref="OutOfBlocksException">Another user of the cache took blocks in between. No step is under way and nothing is lost: call again.</exception>
    /// <exception cref="ObjectDisposedException">The scheduler or the cache is disposed.</exception>
    public BatchStep Next()
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_isDisposed, this);
            if (_state == StepState.Out) throw new InvalidOperationException("The last step was neither completed nor abandoned.");
            _state = StepState.None;
            _step.Clear();
            long releases = _ledger.Releases;
            try
            {
                EndExpired();
                if (!_isPaused) _planner.Plan(_step);
                _ledger.Extend(_step.Sequences, _step.Counts);
                _plannedAt = _ledger.Version;
                _step.Batch.Add(_step.Sequences, _step.Counts);
            }
            catch
            {
                EndStep();
                throw;
            }

            foreach (ScheduledRun run in _step.Runs) run.Request.InStep = true;
            _state = _step.IsEmpty ? StepState.Empty : StepState.Out;
            SetBlocked(_step.IsEmpty, releases);
            return _step;
        }
    }

    /// <summary>Plans the next step as <see cref="Next"/> does, if there is anything to run.</summary>
    /// <param name="step">The step; null if there is nothing to run.</param>
    /// <returns>Whether there is a step, which must be completed or abandoned.</returns>
    /// <exception cref="InvalidOperationException">The last step was neither completed nor abandoned.</exception>
    /// <exception cref="OutOfBlocksException">Another user of the cache took blocks in between. No step is under way and nothing is lost: call again.</exception>
    /// <exception cref="ObjectDisposedException">The scheduler or the cache is disposed.</exception>
    public bool TryNext([NotNullWhen(true)] out BatchStep? step)
    {
        BatchStep next = Next();
        step = next.IsEmpty ? null : next;
        return step is not null;
    }

    /// <summary>Ends the step: its tokens' keys and values are in the cache, in all layers, and a token was sampled after each of its logit rows.</summary>
    /// <param name="sampledTokens">One token for each of <see cref="BatchStep.LogitRows"/>, in that order.</param>
    /// <exception cref="ArgumentException">There are more or fewer tokens; the step is still under way.</exception>
    /// <exception cref="InvalidOperationException">
    /// No step is under way. Or a sequence of the step was changed by somebody else meanwhile, or its blocks were published with other tokens than its request's: then the step is still under way and no
    /// request has changed; cancel that request, or abandon the step, which makes the request start again.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed; the step is still under way.</exception>
    public void Complete(ReadOnlySpan<int> sampledTokens)
    {
        lock (_gate)
        {
            ThrowIfNoStep();
            if (sampledTokens.Length != _step.LogitRows.Length)
                throw new ArgumentException($"{sampledTokens.Length} tokens were given, but the step has {_step.LogitRows.Length} rows to sample after.", nameof(sampledTokens));

            // All that can fail comes before the first change of a request.
            foreach (ScheduledRun run in _step.Runs) PrepareCompletion(run);
            foreach (ScheduledRun run in _step.Runs) PublishBlocks(run);
            foreach (ScheduledRun run in _step.Runs) TakeResult(run, sampledTokens);
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

    private void ThrowIfNoStep()
    {
        if (_state == StepState.None) throw new InvalidOperationException("No step is under way: Next starts one.");
    }

    private void PrepareCompletion(ScheduledRun run)
    {
        if (run.Request.HasEnded) return;
        if (!_ledger.HasLength(run.Sequence, run.Position + run.TokenCount))
            throw new InvalidOperationException($"{run.Sequence} of {run.Request} was changed by somebody else during the step, so it is not known what was computed. Cancel the request or abandon the step.");
        run.Request.ReserveTokens(run.DraftCount + 1);
    }

    private void PublishBlocks(ScheduledRun run)
    {
        GenerationRequest request = run.Request;
        if (request.HasEnded) return;
        int computed = run.Position + run.KnownCount;
        bool endsPrompt = computed == request.Tokens.Length && (run.KnownCount > 1 || computed == request.PromptLength);
        if (!endsPrompt && computed / _ledger.BlockSize == run.Position / _ledger.BlockSize) return;
        if (!_prefixes.TryPublish(request, computed, withPartial: endsPrompt))
            throw new InvalidOperationException($"Blocks of {run.Sequence} were published by somebody else with other tokens than those of {request}. Cancel the request or abandon the step.");
    }

    private void TakeResult(ScheduledRun run, ReadOnlySpan<int> sampledTokens)
    {
        GenerationRequest request = run.Request;
        ComputedTokens += run.TokenCount;
        if (request.HasEnded) return;
        request.Computed += run.KnownCount;
        request.PromptLogitsGiven = Math.Max(request.PromptLogitsGiven, Math.Min(request.PromptLength, request.Computed));
        FinishReason end = FinishReason.None;
        if (request.Uncomputed == 0)
        {
            if (request.MaxNewTokens == 0) end = FinishReason.Length;
            else AcceptedDraftTokens += request.Accept(sampledTokens.Slice(run.LogitIndex + run.LogitCount - run.DraftCount - 1, run.DraftCount + 1), out end);
        }

        if (end == FinishReason.None)
        {
            _planner.MoveOn(request);
            return;
        }

        // What a later prompt may begin with: a conversation goes on, or another sample is to come.
        _prefixes.TryPublish(request, request.Computed, withPartial: true);
        request.End(end);
        _planner.Running.CountOut();
        _deadlines.CountOut(request);
    }

    /// <summary>Leaves each sequence with what is computed and what its window sees, and those that ended with nothing. Does not fail: what is not as it should be starts again.</summary>
    private void EndStep()
    {
        _state = StepState.None;
        foreach (ScheduledRun run in _step.Runs)
        {
            GenerationRequest request = run.Request;
            request.InStep = false;
            if (request.HasEnded || !_ledger.TryTakeBack(request.Sequence, request.Computed, _plannedAt)) _planner.Release(request);
            else if (Options.Window > 0) _ledger.TryDropBefore(request.Sequence, request.Computed - Options.Window + 1);
        }

        _step.Clear();
    }

    /// <summary>Ends those whose time is over.</summary>
    private void EndExpired()
    {
        while (_deadlines.TryTakeExpired(out GenerationRequest request)) End(request, FinishReason.DeadlineExceeded);
    }
}
