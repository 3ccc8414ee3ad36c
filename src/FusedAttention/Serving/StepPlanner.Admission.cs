using FusedAttention.Paging.Ledger;

namespace FusedAttention.Serving;

/// <content>Who of those that wait begins to run.</content>
internal sealed partial class StepPlanner
{
    /// <summary>Those of the queue that were asked in this step and found too few blocks.</summary>
    private readonly List<GenerationRequest> _passedOver = [];

    private int MostRunning => Math.Min(_options.MaxRunningRequests, _options.MaxTokensPerStep);

    /// <summary>
    /// Admits waiting requests in their order. A request must find blocks for all tokens it has, beside what running requests will still need for theirs, and one block more for each
    /// of these: else it would soon be put back. Who finds too few is passed over, unless that has happened as often as may be; who waits for a prefix stands aside.
    /// </summary>
    private void Admit(ref StepBudget budget)
    {
        if (Waiting.ReadyCount == 0) return;
        long promised = _reservedForDrafts;
        foreach (GenerationRequest request in Running.Span) promised += BlocksFor(request);
        _passedOver.Clear();
        for (GenerationRequest? request = Waiting.First, next; request is not null && budget.Left > 0 && Running.Count < MostRunning; request = next)
        {
            next = Waiting.After(request);
            PrefixMatch match = _prefixes.Match(request);
            if (_prefixes.FindLeader(request, match, out int until) is { } leader)
            {
                request.TimesFollowed++;
                Waiting.StandAside(request, leader, until);
                continue;
            }

            if (promised + BlocksFor(request, match) + match.Revived + Running.Count > _ledger.AvailableBlocks)
            {
                if (request.IsDue || _passedOver.Count == _options.LookAhead) return;
                _passedOver.Add(request);
                continue;
            }

            Waiting.Remove(request);
            Start(request, match);
            request.BeginRunning();
            Running.Add(request);
            promised += BlocksFor(request);
            request.GrantedDrafts = 0;
            request.Granted = budget.Take(1);
            if (request.Uncomputed > 1) request.Granted += budget.TakePart(request.Uncomputed - 1);
            _reserved += _ledger.GetBlocksNeeded(request.Sequence, request.Granted);
            if (CountOvertaken(request)) return;
        }
    }

    /// <returns>Whether one that was overtaken is due now, so that nobody else may pass it.</returns>
    private bool CountOvertaken(GenerationRequest admitted)
    {
        bool isDue = Waiting.OvertakeLowerPriorities(admitted);
        foreach (GenerationRequest request in _passedOver) isDue |= Waiting.Overtake(request);
        return isDue;
    }

    private void Start(GenerationRequest request, PrefixMatch match)
    {
        request.Sequence = _prefixes.Create(request, ref match);
        request.Computed = match.Tokens;
        request.SharedTokens += match.Tokens;
        SharedTokens += match.Tokens;
        _prefixes.Announce(request);
    }

    /// <summary>Blocks that a running request still takes for the tokens it has.</summary>
    private long BlocksFor(GenerationRequest request) => Math.Min(MostBlocks, _ledger.GetBlocksNeeded(request.Sequence, request.Uncomputed));

    /// <summary>Blocks that a waiting one would take, beside those that it would share.</summary>
    private long BlocksFor(GenerationRequest request, in PrefixMatch match)
        => Math.Min(MostBlocks, (((long)request.Tokens.Length + _ledger.BlockSize - 1) / _ledger.BlockSize) - match.Blocks);
}
