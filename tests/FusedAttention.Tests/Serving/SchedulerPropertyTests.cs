using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>10,000 random steps with arrivals, cancellations, failing steps and a pool too small for all: every request ends with the right text, and every block comes back.</summary>
public sealed class SchedulerPropertyTests(ITestOutputHelper output)
{
    private const int Steps = 10_000;
    private const int StopToken = 3;

    public static TheoryData<int, int, int, bool, bool> Pools() => new()
    {
        // block size, blocks, tokens a step, shared prefixes, another user of the pool
        { 1, 150, 24, true, false },
        { 4, 30, 16, true, false },
        { 4, 30, 16, false, false },
        { 4, 40, 7, true, true },
        { 16, 9, 64, true, false },
        { 8, 16, 100, true, false },
    };

    [Slow]
    [Theory]
    [MemberData(nameof(Pools))]
    public void Every_request_ends_with_the_right_text(int blockSize, int blocks, int tokensPerStep, bool share, bool otherUser)
    {
        using var simulation = new Simulation(1, blockSize, blocks, tokensPerStep, share, otherUser);
        for (int step = 0; step < Steps; step++) simulation.Step();
        simulation.Drain();
        output.WriteLine(simulation.ToString());
        Assert.True(simulation.Finished > Steps / 50);
        Assert.True(simulation.Cancelled > 50);
        Assert.True(simulation.Model.Scheduler.Preemptions > 50, "The pool was never full.");
        if (share) Assert.True(simulation.Model.Scheduler.SharedTokens > 1000);
    }

    /// <summary>Sequences of requests are freed, cut, and extended behind the scheduler's back, during steps and between them; and prefixes are forgotten.</summary>
    [Slow]
    [Theory]
    [InlineData(4, 30, 16, true)]
    [InlineData(1, 120, 24, true)]
    [InlineData(8, 16, 100, false)]
    public void Every_request_ends_with_the_right_text_though_somebody_meddles(int blockSize, int blocks, int tokensPerStep, bool share)
    {
        using var simulation = new Simulation(3, blockSize, blocks, tokensPerStep, share, otherUser: false) { Meddles = true };
        for (int step = 0; step < Steps / 2; step++) simulation.Step();
        simulation.Drain();
        output.WriteLine(simulation.ToString());
        Assert.True(simulation.Finished > Steps / 100);
        Assert.True(simulation.Refused > 50, $"{simulation.Refused} steps refused");
    }

    [Slow]
    [Fact]
    public void The_same_calls_give_the_same_steps()
    {
        using var first = new Simulation(2, 4, 30, 16, share: true, otherUser: false);
        using var second = new Simulation(2, 4, 30, 16, share: true, otherUser: false);
        for (int step = 0; step < 2000; step++)
        {
            first.Step();
            second.Step();
            Assert.Equal(first.Trace, second.Trace);
        }
    }

    private sealed class Simulation : IDisposable
    {
        private readonly Random _random;
        private readonly int _capacity;
        private readonly bool _otherUser;
        private readonly List<GenerationRequest> _live = [];
        private readonly List<CacheSequence> _others = [];
        private readonly HashCodeBuilder _trace = new();
        private CacheSequence _lastSequence;

        public Simulation(int seed, int blockSize, int blocks, int tokensPerStep, bool share, bool otherUser)
        {
            _random = new(seed);
            _capacity = blocks * blockSize;
            _otherUser = otherUser;
            Model = new(blocks, blockSize, new() { MaxTokensPerStep = tokensPerStep, MaxRunningRequests = 12, SharePrefixes = share });
        }

        public CountingModel Model { get; }

        public int Finished { get; private set; }

        public int Cancelled { get; private set; }

        public bool Meddles { get; init; }

        /// <summary>Steps that could not be completed.</summary>
        public int Refused { get; private set; }

        public long Trace => _trace.Value;

        public void Step()
        {
            if (_live.Count < 40 && _random.Next(3) == 0) Arrive();
            if (_random.Next(40) == 0) CancelOne();
            if (_otherUser) DisturbPool();
            BatchStep step = Model.Scheduler.Next();
            Check(step);
            if (!step.IsEmpty)
            {
                if (_random.Next(50) == 0)
                {
                    if (Meddles) Meddle(step);
                    Model.Scheduler.Abandon();
                }
                else
                {
                    int[] sampled = Model.Run(step);
                    if (_random.Next(20) == 0) CancelOne();
                    if (Meddles && _random.Next(20) == 0) Meddle(step);
                    Complete(sampled);
                }

                if (Meddles && _random.Next(30) == 0) Meddle(_lastSequence);
                if (Meddles && _random.Next(100) == 0) Model.Cache.ForgetPrefixes();
            }

            Collect();
        }

        public void Drain()
        {
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
            $"{Finished} finished, {Cancelled} cancelled, {Model.Scheduler.Preemptions} preemptions, {Model.Scheduler.ComputedTokens} tokens computed, {Model.Scheduler.SharedTokens} shared";

        private void Complete(int[] sampled)
        {
            try
            {
                Model.Scheduler.Complete(sampled);
            }
            catch (InvalidOperationException) when (Meddles)
            {
                Refused++;
                Model.Scheduler.Abandon();
            }
        }

        private void Meddle(BatchStep step) => Meddle(step.Runs[_random.Next(step.Runs.Length)].Sequence);

        private void Meddle(CacheSequence sequence)
        {
            if (!Model.Cache.Contains(sequence)) return;
            int length = Model.Cache.GetLength(sequence);
            switch (_random.Next(3))
            {
                case 0: Model.Cache.Free(sequence); break;
                case 1: Model.Cache.Truncate(sequence, _random.Next(length + 1)); break;
                default:
                    if (Model.Cache.GetBlocksNeeded(sequence, 3) <= Model.Cache.FreeBlocks) Model.Cache.Extend(sequence, 3);
                    break;
            }
        }

        private void Arrive()
        {
            // Prompts share beginnings of several lengths; a few requests fill the pool to its last slot.
            int[] common = [.. Enumerable.Range(0, _random.Next(4) * 8).Select(static i => i % 3)];
            int[] prompt = [.. common, .. Enumerable.Range(0, _random.Next(1, 20)).Select(_ => _random.Next(CountingModel.Vocabulary))];
            int newTokens = _random.Next(100) == 0 ? _capacity + 1 - prompt.Length : _random.Next(1, 40);
            newTokens = Math.Min(newTokens, Math.Min(200, _capacity + 1 - prompt.Length));
            bool stops = _random.Next(8) == 0;
            GenerationRequest request = stops ? Model.Scheduler.Add(prompt, newTokens, StopToken) : Model.Scheduler.Add(prompt, newTokens);
            request.Tag = stops;
            _live.Add(request);
        }

        private void CancelOne()
        {
            if (_live.Count > 0) Model.Scheduler.Cancel(_live[_random.Next(_live.Count)]);
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

        private void Check(BatchStep step)
        {
            Assert.True(step.Tokens.Length <= Model.Scheduler.Options.MaxTokensPerStep);
            Assert.Equal(Model.Scheduler.RunningCount, step.Runs.Length);
            long id = -1;
            foreach (ScheduledRun run in step.Runs)
            {
                Assert.True(run.Request.Id > id, "Runs are not in the order of arrival.");
                id = run.Request.Id;
                Assert.True(run.TokenCount > 0);
                _trace.Add(id, run.TokenCount, run.Position, run.Sequence.Id);
                _lastSequence = run.Sequence;
            }

            // Those that wait are younger than those that run; and unless somebody else has the blocks, the oldest one runs.
            GenerationRequest? oldest = _live.FirstOrDefault(static request => request.State == GenerationState.Waiting);
            Assert.True(oldest is null || oldest.Id > id, "A younger request runs while an older one waits.");
            Assert.True(_otherUser || _live.Count == 0 || !step.IsEmpty, "Nothing runs though there is work.");
        }

        private void Collect()
        {
            foreach (GenerationRequest request in _live.Where(static request => request.HasEnded))
            {
                ReadOnlySpan<int> prompt = request.Tokens[..request.PromptLength];
                if (request.State == GenerationState.Finished)
                {
                    Finished++;
                    int[] text = CountingModel.Continue(prompt, request.MaxNewTokens, request.Tag is true ? [StopToken] : []);
                    Assert.Equal(text, request.GeneratedTokens.ToArray());
                }
                else
                {
                    Cancelled++;
                    Assert.Equal(CountingModel.Continue(prompt, request.GeneratedTokens.Length), request.GeneratedTokens.ToArray());
                }
            }

            _live.RemoveAll(static request => request.HasEnded);
        }
    }

    private sealed class HashCodeBuilder
    {
        public long Value { get; private set; } = 17;

        public void Add(params ReadOnlySpan<long> numbers)
        {
            foreach (long number in numbers) Value = unchecked((Value * 1_000_003) ^ number);
        }
    }
}
