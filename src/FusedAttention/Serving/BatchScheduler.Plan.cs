namespace FusedAttention.Serving;

/// <content>Which requests take part in a step, and with how many tokens.</content>
public sealed partial class BatchScheduler
{
    private void Plan()
    {
        int budget = Options.MaxTokensPerStep;
        if (PlanRunning(ref budget)) Admit(budget);
    }

    /// <summary>
    /// Gives each running request its tokens, oldest first. One token is kept back for each younger one, so that a long prompt never stops others from decoding. Who finds too few blocks takes those of
    /// the youngest.
    /// </summary>
    /// <returns>Whether all of them found blocks; if not, nobody is to be admitted.</returns>
    private bool PlanRunning(ref int budget)
    {
        long before = Preemptions;
        long reserved = 0;
        for (int i = 0; i < _running.Count; i++)
        {
            GenerationRequest request = _running[i];
            int share = budget - (_running.Count - 1 - i);
            int tokens = Math.Min(request.Uncomputed, share);
            if (!_ledger.TryGetBlocksNeeded(request.Sequence, request.Computed, tokens, out int needed))
            {
                // Its sequence was given up, or somebody else has changed it: what it holds is not known.
                Release(request);
                Start(request);
                tokens = Math.Min(request.Uncomputed, share);
                needed = _ledger.GetBlocksNeeded(request.Sequence, tokens);
            }

            while (reserved + needed > _ledger.AvailableBlocks && i < _running.Count) PutBackYoungest();
            if (i == _running.Count) break;
            reserved += needed;
            budget -= tokens;
            _step.Add(request, tokens);
        }

        return Preemptions == before;
    }

    /// <summary>
    /// Admits waiting requests, oldest first. A request must find blocks for all tokens it has, beside what running requests will still need for theirs, and one block more for each
    /// of these: else it would soon be put back. It does not overtake.
    /// </summary>
    private void Admit(int budget)
    {
        if (_waiting.Count == 0) return;
        long promised = 0;
        foreach (GenerationRequest request in _running) promised += _ledger.GetBlocksNeeded(request.Sequence, request.Uncomputed);
        int most = Math.Min(Options.MaxRunningRequests, Options.MaxTokensPerStep);
        while (budget > 0 && _waiting.Count > 0 && _running.Count < most)
        {
            GenerationRequest request = _waiting[0];
            CacheSequence sequence = CreateSequence(request, out int shared);
            int needed = _ledger.GetBlocksNeeded(sequence, request.Tokens.Length - shared);
            if (promised + needed + _running.Count > _ledger.AvailableBlocks || IsBeingComputed(request.Tokens[..^1], shared))
            {
                _ledger.Discard(sequence);
                return;
            }

            promised += needed;
            _waiting.RemoveAt(0);
            _running.Add(request);
            request.State = GenerationState.Running;
            Start(request, sequence, shared);
            int count = Math.Min(request.Uncomputed, budget);
            budget -= count;
            _step.Add(request, count);
        }
    }

    /// <summary>A sequence that starts with what is in the cache of a request's tokens, but for the last one, whose logits somebody has to compute.</summary>
    private CacheSequence CreateSequence(GenerationRequest request, out int shared)
    {
        shared = 0;
        return Options.SharePrefixes ? _ledger.Create(request.Tokens[..^1], out shared) : _ledger.Create();
    }

    private void Start(GenerationRequest request) => Start(request, CreateSequence(request, out int shared), shared);

    private void Start(GenerationRequest request, CacheSequence sequence, int shared)
    {
        request.Sequence = sequence;
        request.Computed = shared;
        request.SharedTokens += shared;
        SharedTokens += shared;
    }

    /// <summary>Whether a running request is about to compute more full blocks of these tokens than are shared already: then it is worth waiting for them.</summary>
    private bool IsBeingComputed(ReadOnlySpan<int> tokens, int shared)
    {
        if (!Options.SharePrefixes) return false;
        foreach (GenerationRequest request in _running)
        {
            int common = tokens.CommonPrefixLength(request.Tokens);
            common -= common % _ledger.BlockSize;
            if (common > shared && common > request.Computed) return true;
        }

        return false;
    }

    /// <summary>Frees the youngest running request's blocks; it keeps its tokens and is the next to be admitted.</summary>
    private void PutBackYoungest()
    {
        GenerationRequest request = _running[^1];
        _running.RemoveAt(_running.Count - 1);
        _waiting.Insert(0, request);
        Release(request);
        request.State = GenerationState.Waiting;
        request.Preemptions++;
        Preemptions++;
    }
}
