using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>What a simulation does beside requests that come, run, and are cancelled.</summary>
internal sealed record Traffic
{
    public int Seed { get; init; } = 1;

    public required int BlockSize { get; init; }

    public required int Blocks { get; init; }

    public required int TokensPerStep { get; init; }

    public bool Shares { get; init; } = true;

    public int Window { get; init; }

    /// <summary>Somebody else takes blocks of the pool and gives them back.</summary>
    public bool HasOtherUser { get; init; }

    /// <summary>Sequences of requests are freed, cut, and extended behind the scheduler's back, during steps and between them; and prefixes are forgotten.</summary>
    public bool Meddles { get; init; }

    /// <summary>Drafts, forks, priorities, time limits, identities, prompt logits, prefills, pauses and new weights.</summary>
    public bool IsRich { get; init; }
}

/// <summary>Random requests over a pool too small for all. Every step is checked for what the scheduler promises, and every text that comes of it.</summary>
internal sealed class TrafficSimulation : IDisposable
{
    private const int StopToken = 3;
    private const int MostLive = 40;

    private readonly Traffic _traffic;
    private readonly Random _random;
    private readonly ManualClock _clock = new();
    private readonly List<GenerationRequest> _live = [];
    private readonly List<CacheSequence> _others = [];
    private readonly Dictionary<GenerationRequest, int> _overtaken = [];
    private readonly HashSet<GenerationRequest> _ready = [];
    private GenerationRequest? _first;
    private CacheSequence _lastSequence;
    private int _weights;

    public TrafficSimulation(Traffic traffic)
    {
        _traffic = traffic;
        _random = new(traffic.Seed);
        Model = new(traffic.Blocks, traffic.BlockSize, new()
        {
            MaxTokensPerStep = traffic.TokensPerStep,
            MaxRunningRequests = 12,
            SharePrefixes = traffic.Shares,
            Window = traffic.Window,
            LookAhead = 4,
            MaxOvertakes = 6,
            TimeProvider = _clock,
        }) { Weights = request => _weights + (2 * (request.Options.PrefixIdentity?.Length ?? 0)) };
    }

    public CountingModel Model { get; }

    public Dictionary<FinishReason, int> Ended { get; } = new() { [FinishReason.Stop] = 0, [FinishReason.Length] = 0, [FinishReason.Cancelled] = 0, [FinishReason.DeadlineExceeded] = 0 };

    public int Finished => Ended[FinishReason.Stop] + Ended[FinishReason.Length];

    /// <summary>Steps that could not be completed.</summary>
    public int Refused { get; private set; }

    /// <summary>The most that any request was overtaken.</summary>
    public int MostOvertaken { get; private set; }

    public int Forks { get; private set; }

    /// <summary>All steps so far, as a number.</summary>
    public long Trace { get; private set; } = 17;

    private BatchScheduler Scheduler => Model.Scheduler;

    public void Step()
    {
        if (_live.Count < MostLive && _random.Next(3) == 0) Arrive();
        if (_random.Next(40) == 0) CancelOne();
        if (_traffic.HasOtherUser) DisturbPool();
        if (_traffic.IsRich) Enrich();
        BatchStep step = Scheduler.Next();
        Check(step);
        if (!step.IsEmpty) Run(step);
        Collect();
    }

    public void Drain()
    {
        Scheduler.Resume();
        foreach (CacheSequence other in _others) Model.Cache.Free(other);
        while (Model.Step())
        {
        }

        Collect();
        Assert.Empty(_live);
        Model.AssertNothingLeaked();
    }

    public void Dispose() => Model.Dispose();

    public override string ToString() =>
        $"{string.Join(", ", Ended.Select(static e => $"{e.Value} {e.Key}"))}, {Forks} forks, {Scheduler.Preemptions} preemptions, {Refused} refused, {MostOvertaken} overtaken at most; " +
        $"{Scheduler.ComputedTokens} tokens computed, {Scheduler.SharedTokens} shared, {Scheduler.AcceptedDraftTokens} of {Scheduler.DraftTokens} drafts right";

    private void Run(BatchStep step)
    {
        if (_random.Next(50) == 0)
        {
            if (_traffic.Meddles) Meddle(step);
            Scheduler.Abandon();
        }
        else
        {
            int[] sampled = Model.Run(step);
            if (_random.Next(20) == 0) CancelOne();
            if (_traffic.Meddles && _random.Next(20) == 0) Meddle(step);
            Complete(sampled);
        }

        if (_traffic.Meddles && _random.Next(30) == 0) Meddle(_lastSequence);
        if (_traffic.Meddles && _random.Next(100) == 0) Model.Cache.ForgetPrefixes();
    }

    private void Complete(int[] sampled)
    {
        try
        {
            Scheduler.Complete(sampled);
        }
        catch (InvalidOperationException) when (_traffic.Meddles)
        {
            Refused++;
            Scheduler.Abandon();
        }
    }

    private void Meddle(BatchStep step) => Meddle(step.Runs[_random.Next(step.Runs.Length)].Sequence);

    private void Meddle(CacheSequence sequence)
    {
        if (!Model.Cache.Contains(sequence)) return;
        int length = Model.Cache.GetLength(sequence), first = Model.Cache.GetFirstPosition(sequence);
        switch (_random.Next(3))
        {
            case 0: Model.Cache.Free(sequence); break;
            case 1: Model.Cache.Truncate(sequence, _random.Next(first, length + 1)); break;
            default:
                if (Model.Cache.GetBlocksNeeded(sequence, 3) <= Model.Cache.FreeBlocks) Model.Cache.Extend(sequence, 3);
                break;
        }
    }

    private void Arrive()
    {
        // Prompts share beginnings of several lengths; a few requests fill the pool to its last slot.
        int capacity = _traffic.Blocks * _traffic.BlockSize;
        int[] common = [.. Enumerable.Range(0, _random.Next(4) * 8).Select(static i => i % 3)];
        int[] prompt = [.. common, .. Enumerable.Range(0, _random.Next(1, 20)).Select(_ => _random.Next(CountingModel.Vocabulary))];
        int newTokens = _random.Next(100) == 0 ? capacity + 1 - prompt.Length : _random.Next(1, 40);
        var options = new GenerationOptions { MaxNewTokens = Math.Min(newTokens, Math.Min(200, capacity + 1 - prompt.Length)), StopTokens = _random.Next(8) == 0 ? [StopToken] : [] };
        if (_traffic.IsRich)
        {
            options = options with
            {
                MaxNewTokens = _random.Next(15) == 0 ? 0 : options.MaxNewTokens,
                Priority = _random.Next(4) == 0 ? _random.Next(-1, 2) : 0,
                TimeLimit = _random.Next(6) == 0 ? TimeSpan.FromSeconds(_random.Next(1, 60)) : null,
                PromptLogits = _random.Next(10) == 0,
                SharePrefix = _random.Next(8) > 0,
                PrefixIdentity = _random.Next(5) == 0 ? new('x', _random.Next(3)) : null,
            };
        }

        _live.Add(Scheduler.Add(prompt, options));
    }

    private void CancelOne()
    {
        if (_live.Count > 0) Scheduler.Cancel(_live[_random.Next(_live.Count)]);
    }

    private void DisturbPool()
    {
        if (_others.Count > 0 && _random.Next(3) == 0)
        {
            Model.Cache.Free(_others[0]);
            _others.RemoveAt(0);
        }

        if (_others.Count >= 3 || _random.Next(4) != 0) return;
        CacheSequence other = Model.Cache.CreateSequence();
        _others.Add(other);
        int tokens = _random.Next(1, 30);
        if (Model.Cache.GetBlocksNeeded(other, tokens) <= Model.Cache.FreeBlocks) Model.Cache.Extend(other, tokens);
    }

    private void Enrich()
    {
        _clock.Now += TimeSpan.FromMilliseconds(_random.Next(1000));
        foreach (GenerationRequest request in _live)
            if (request.State == GenerationState.Running && _random.Next(4) == 0) Propose(request);
        if (_live.Count is > 0 and < MostLive && _random.Next(20) == 0) Fork(_live[_random.Next(_live.Count)]);
        switch (_random.Next(400))
        {
            case 0: Scheduler.Pause(); break;
            case 1:
                // Other weights: what is written from now on is told from what was.
                _weights = 1 - _weights;
                Scheduler.Resume(recompute: true);
                break;
            case < 150: Scheduler.Resume(); break;
        }
    }

    /// <summary>A right line, into which wrong drafts are put, each behind some other one.</summary>
    private void Propose(GenerationRequest request)
    {
        int[] text = CountingModel.Continue(request.Tokens, 5, window: _traffic.Window);
        List<int> drafts = [], parents = [];
        int last = -1, right = 0, count = _random.Next(1, 6);
        bool isTree = _random.Next(3) == 0;
        for (int i = 0; i < count; i++)
        {
            bool isRight = _random.Next(3) > 0;
            parents.Add(isRight || !isTree ? (isTree ? last : i - 1) : _random.Next(-1, i));
            drafts.Add(isRight ? text[right] : _random.Next(CountingModel.Vocabulary));
            if (!isRight) continue;
            last = i;
            right++;
        }

        Scheduler.Propose(request, drafts.ToArray(), isTree ? parents.ToArray() : []);
    }

    private void Fork(GenerationRequest request)
    {
        int room = (_traffic.Blocks * _traffic.BlockSize) + 1 - request.Tokens.Length;
        if (room < 1) return;
        _live.Add(Scheduler.Fork(request, request.Options with { MaxNewTokens = _random.Next(Math.Min(room, 30)) }));
        Forks++;
    }

    private void Check(BatchStep step)
    {
        Assert.True(step.Tokens.Length <= Scheduler.Options.MaxTokensPerStep);
        GenerationRequest? before = null;
        foreach (ScheduledRun run in step.Runs)
        {
            GenerationRequest request = run.Request;
            Assert.True(before is null || Rank(before).CompareTo(Rank(request)) < 0, "Runs are not in order.");
            before = request;
            Assert.Equal(GenerationState.Running, request.State);
            Assert.True(run.TokenCount > run.DraftCount);
            AddToTrace(request.Id, run.TokenCount, run.Position, run.Sequence.Id);
            _lastSequence = run.Sequence;
        }

        CheckQueue(step);
        if (step.IsEmpty) return;
        Assert.Equal(Scheduler.RunningCount, step.Runs.Length);

        // Who came first in the last step is never put back, so it ends some time.
        if (_first is { HasEnded: false } && !_traffic.HasOtherUser && !_traffic.Meddles) Assert.True(_first.State == GenerationState.Running || _first.Computed == 0, "The first one was put back.");
        _first = step.Runs[0].Request;

        static (int, int, long) Rank(GenerationRequest request) => request.IsDue ? (0, 0, request.Id) : (1, -request.Options.Priority, request.Id);
    }

    /// <summary>Nobody in the queue is overtaken more often than is allowed. Standing aside for a prefix is no overtaking.</summary>
    private void CheckQueue(BatchStep step)
    {
        List<GenerationRequest> waiting = [.. _live.Where(static request => request.State == GenerationState.Waiting && request.Leader is null)];
        foreach (ScheduledRun run in step.Runs)
        {
            if (!_ready.Contains(run.Request) || run.Request.IsDue) continue;
            foreach (GenerationRequest passed in waiting)
            {
                if (passed.Id > run.Request.Id || passed.Options.Priority < run.Request.Options.Priority || !_ready.Contains(passed)) continue;
                int times = _overtaken[passed] = _overtaken.GetValueOrDefault(passed) + 1;
                MostOvertaken = Math.Max(MostOvertaken, times);
                Assert.True(times <= Scheduler.Options.MaxOvertakes, $"{passed} was overtaken {times} times, at last by {run.Request}.");
            }
        }

        _ready.Clear();
        _ready.UnionWith(waiting);
        Assert.True(_traffic.HasOtherUser || _traffic.IsRich || !step.IsEmpty || _live.TrueForAll(static request => request.HasEnded), "Nothing runs though there is work.");
    }

    private void Collect()
    {
        foreach (GenerationRequest request in _live.Where(static request => request.HasEnded))
        {
            Ended[request.FinishReason]++;
            _overtaken.Remove(request);
            bool isWhole = request.FinishReason is FinishReason.Stop or FinishReason.Length;
            int[] text = CountingModel.Continue(request.Tokens[..request.PromptLength], isWhole ? request.MaxNewTokens : request.GeneratedTokens.Length, isWhole ? request.Options.StopTokens.AsSpan() : [], _traffic.Window);
            Assert.Equal(text, request.GeneratedTokens.ToArray());
            Assert.Equal(isWhole, request.State == GenerationState.Finished);
        }

        _live.RemoveAll(static request => request.HasEnded);
    }

    private void AddToTrace(params ReadOnlySpan<long> numbers)
    {
        foreach (long number in numbers) Trace = unchecked((Trace * 1_000_003) ^ number);
    }
}
