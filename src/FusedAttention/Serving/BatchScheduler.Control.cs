namespace FusedAttention.Serving;

/// <content>Drafts, forks, and pauses.</content>
public sealed partial class BatchScheduler
{
    private bool _isPaused;

    /// <summary>
    /// Says what is believed to follow a request's last token. The next step runs these drafts behind that token, with logits after each of them; those that turn out to be what was sampled are kept with one token
    /// more, and the rest is taken back. So a step yields several tokens of a request, the same as without drafts.
    /// </summary>
    /// <remarks>
    /// Whether a draft is kept is decided by <see cref="Complete"/>: if the token sampled after its predecessor is the draft. Who samples at random hands back the draft where it accepts it, and another token where it does not.
    /// Drafts count as tokens of the step, behind the one that every request gets: there may be room for the first of them only, or for none. They are forgotten with the next token; in a step that is abandoned
    /// they stay.
    /// A tree lists each draft behind the one that it follows, the likeliest line first: its keys lie where they belong. Right drafts of another line are computed again with the next step, as tokens that are known.
    /// A model must mask a tree: <see cref="BatchStep.CreateTreeMask"/>.
    /// </remarks>
    /// <param name="request">A request of this scheduler that is not in a step.</param>
    /// <param name="drafts">The tokens; none to take drafts back.</param>
    /// <param name="parents">For a tree: the index of the draft that each one follows, which is an earlier one, or -1 for the request's last token. Empty for a line.</param>
    /// <returns>False if the request has ended.</returns>
    /// <exception cref="ArgumentException">The request is another scheduler's, or the parents are no tree.</exception>
    /// <exception cref="InvalidOperationException">The request is part of a step that is under way.</exception>
    public bool Propose(GenerationRequest request, ReadOnlySpan<int> drafts, ReadOnlySpan<int> parents = default)
    {
        ThrowIfForeign(request);
        DraftTree? tree = drafts.IsEmpty ? null : new(drafts, parents);
        lock (_gate)
        {
            if (request.HasEnded) return false;
            if (request.InStep) throw new InvalidOperationException($"{request} is part of a step that is under way, so its next token is not known yet.");
            request.Drafts = tree;
            return true;
        }
    }

    /// <summary>
    /// Takes on a request that begins with all tokens that another one has by now: another sample of it, or another way on. What is computed of them is shared, the block that is not full included; if they are
    /// still being computed, the new request waits for that. So n samples of one prompt compute it once.
    /// </summary>
    /// <param name="request">A request of this scheduler; it may have ended.</param>
    /// <param name="options">What the new one wants; null for the same, with as many new tokens as the other one may still have.</param>
    /// <returns>The new request. Its prompt is all the tokens of the other one.</returns>
    /// <inheritdoc cref="Add(ReadOnlySpan{int}, GenerationOptions)"/>
    public GenerationRequest Fork(GenerationRequest request, GenerationOptions? options = null)
    {
        ThrowIfForeign(request);
        lock (_gate)
        {
            options ??= request.Options with { MaxNewTokens = request.MaxNewTokens - request.GeneratedTokens.Length };
            GenerationRequest fork = Add(request.Tokens, options);
            if (request.State == GenerationState.Running) _prefixes.TryPublish(request, request.Computed, withPartial: true);
            return fork;
        }
    }

    /// <summary>Plans no more steps until <see cref="Resume"/>. A step that is under way may be completed; requests may come and go.</summary>
    public void Pause()
    {
        lock (_gate) _isPaused = true;
    }

    /// <summary>Goes on after <see cref="Pause"/>.</summary>
    /// <param name="recompute">
    /// The model's weights have changed: published prefixes are forgotten (<see cref="KeyValueCache.ForgetPrefixes"/>), and all that runs goes back to the queue with its tokens, whose keys and values are computed anew.
    /// </param>
    /// <exception cref="InvalidOperationException">Something is to be computed again, but a step is under way.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Resume(bool recompute = false)
    {
        lock (_gate)
        {
            if (recompute)
            {
                if (_state == StepState.Out) throw new InvalidOperationException("A step is under way: complete or abandon it first.");
                _ledger.ForgetPrefixes();
                _planner.PutBackAll();
            }

            _isPaused = false;
            WakeWaiters();
        }
    }
}
