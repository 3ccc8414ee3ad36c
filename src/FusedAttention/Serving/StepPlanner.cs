using FusedAttention.Paging.Ledger;

namespace FusedAttention.Serving;

/// <summary>Which requests take part in a step, and with how many tokens. Knows neither locks nor results: the scheduler asks it for a step, and tells it what has ended.</summary>
internal sealed partial class StepPlanner
{
    private readonly CacheLedger _ledger;
    private readonly BatchSchedulerOptions _options;
    private readonly PrefixSharing _prefixes;

    /// <summary>Blocks that the step takes.</summary>
    private long _reserved;

    /// <summary>Those of them that are taken for drafts.</summary>
    private long _reservedForDrafts;

    public StepPlanner(CacheLedger ledger, BatchSchedulerOptions options, PrefixSharing prefixes)
    {
        _ledger = ledger;
        _options = options;
        _prefixes = prefixes;
        Waiting = new(options.MaxOvertakes);
    }

    public RequestQueue Waiting { get; }

    public RunningRequests Running { get; } = new();

    /// <summary>How often a request was put back because the pool was full.</summary>
    public long Preemptions { get; private set; }

    /// <summary>Tokens that requests found in the cache.</summary>
    public long SharedTokens { get; private set; }

    /// <summary>Drafts that steps have run.</summary>
    public long DraftTokens { get; private set; }

    /// <summary>The most blocks that a request ever holds, whatever its length: those of its window and a step; no bound without a window.</summary>
    public long MostBlocks => _options.Window == 0 ? long.MaxValue : (((long)_options.Window + _options.MaxTokensPerStep + _ledger.BlockSize - 1) / _ledger.BlockSize) + 1;

    /// <summary>Fills a step: running requests first, then as many of those that wait as find tokens and blocks.</summary>
    public void Plan(BatchStep step)
    {
        Running.Settle();
        StepBudget budget = Grant();
        if (MakeRoom(ref budget)) Admit(ref budget);
        GrantRest(ref budget);
        foreach (GenerationRequest request in Running.Span)
        {
            step.Add(request);
            DraftTokens += request.GrantedDrafts;
        }
    }

    /// <summary>Takes a request's blocks away; it keeps its tokens and waits for its turn again.</summary>
    public void PutBack(GenerationRequest request)
    {
        Release(request);
        request.BeginWaiting();
        Waiting.Add(request);
    }

    /// <summary>Puts back all that run.</summary>
    public void PutBackAll()
    {
        Running.Settle();
        while (Running.Count > 0) PutBack(Running.RemoveLast());
    }

    /// <summary>Gives the blocks of a request back, if its sequence is still there. Who has waited for it waits no more.</summary>
    public void Release(GenerationRequest request)
    {
        _ledger.TryFree(request.Sequence);
        request.Sequence = default;
        request.Computed = 0;
        _prefixes.Withdraw(request);
        Waiting.ComeBack(request, int.MaxValue);
    }

    /// <summary>Tells others how far a request is.</summary>
    public void MoveOn(GenerationRequest request)
    {
        if (request.AnnouncedBlock != 0 || request.AnnouncedPrompt != 0) _prefixes.Announce(request);
        Waiting.ComeBack(request, request.Computed);
    }

    /// <summary>Each running request has one token, so that a long prompt never stops others from decoding. Drafts come next, and prompts divide the rest; half of it at least is theirs.</summary>
    private StepBudget Grant()
    {
        int prompts = 0;
        foreach (GenerationRequest request in Running.Span)
        {
            request.Granted = 1;
            request.GrantedDrafts = 0;
            if (request.Uncomputed > 1) prompts++;
        }

        int free = _options.MaxTokensPerStep - Running.Count;
        int waiting = Math.Min(Waiting.ReadyCount, MostRunning - Running.Count);
        int forDrafts = prompts + waiting > 0 ? free / 2 : free;
        foreach (GenerationRequest request in Running.Span)
        {
            if (request.Drafts is null || request.Uncomputed > 1) continue;

            // The last token that is generated needs no drafts: whatever follows is not wanted.
            int wanted = Math.Min(request.Drafts.Count, request.MaxNewTokens - request.GeneratedTokens.Length - 1);
            request.GrantedDrafts = Math.Clamp(wanted, 0, forDrafts);
            forDrafts -= request.GrantedDrafts;
            free -= request.GrantedDrafts;
        }

        var budget = new StepBudget(free, prompts, waiting, _options.MaxPromptShare);
        foreach (GenerationRequest request in Running.Span)
            if (request.Uncomputed > 1) request.Granted += budget.TakePart(request.Uncomputed - 1);
        return budget;
    }

    /// <summary>Finds blocks for the running requests' tokens, in their order. Who finds too few takes those of the last one.</summary>
    /// <returns>Whether all of them found blocks; if not, nobody is to be admitted.</returns>
    private bool MakeRoom(ref StepBudget budget)
    {
        long before = Preemptions;
        _reserved = 0;
        for (int i = 0; i < Running.Count; i++)
        {
            GenerationRequest request = Running[i];
            if (!_ledger.TryGetBlocksNeeded(request.Sequence, request.Computed, request.Granted, out int needed))
            {
                // Its sequence was given up, or somebody else has changed it: what it holds is not known.
                Release(request);
                Start(request, _prefixes.Match(request));
                budget.Return(Math.Max(0, request.Granted - request.Uncomputed) + request.GrantedDrafts);
                request.Granted = Math.Min(request.Granted, request.Uncomputed);
                request.GrantedDrafts = 0;
                needed = _ledger.GetBlocksNeeded(request.Sequence, request.Granted);
            }

            while (_reserved + needed > _ledger.AvailableBlocks && i < Running.Count)
            {
                GenerationRequest last = Running.RemoveLast();
                budget.Return(last.Granted + last.GrantedDrafts);
                PutBack(last);
                last.Preemptions++;
                Preemptions++;
            }

            if (i == Running.Count) break;
            _reserved += needed;
        }

        long known = _reserved;
        foreach (GenerationRequest request in Running.Span)
            if (request.GrantedDrafts > 0 && !TryReserve(request, request.GrantedDrafts)) request.GrantedDrafts = 0;
        _reservedForDrafts = _reserved - known;
        return Preemptions == before;
    }

    /// <summary>Hands out what is left to those who have more to compute, as far as there are blocks; nobody is put back for it.</summary>
    private void GrantRest(ref StepBudget budget)
    {
        for (int round = 0; round < 2 && budget.Left > 0; round++)
        {
            foreach (GenerationRequest request in Running.Span)
            {
                int wanted = request.Uncomputed - request.Granted;
                if (wanted <= 0) continue;
                int more = round == 0 ? budget.TakeUpToShare(wanted, request.Granted - 1) : budget.Take(wanted);
                if (more > 0 && TryReserve(request, more)) request.Granted += more;
                else budget.Return(more);
            }
        }
    }

    /// <summary>Finds blocks for more tokens behind those that a request is granted.</summary>
    private bool TryReserve(GenerationRequest request, int more)
    {
        int needed = _ledger.GetBlocksNeeded(request.Sequence, request.Granted + more) - _ledger.GetBlocksNeeded(request.Sequence, request.Granted);
        if (_reserved + needed > _ledger.AvailableBlocks) return false;
        _reserved += needed;
        return true;
    }
}
