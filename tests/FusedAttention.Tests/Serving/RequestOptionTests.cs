using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>What one request may want that others do not.</summary>
public sealed class RequestOptionTests
{
    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public void Options_say_what_is_set()
    {
        Assert.Equal("at most 16 tokens", new GenerationOptions().ToString());
        Assert.Equal(
            "at most 200 tokens, stops after 2 or 13, priority 1, within 1.5 s, shares no prefix, prefixes of 'tenant', logits of the prompt, tag 7",
            new GenerationOptions
            {
                MaxNewTokens = 200, StopTokens = [2, 13], Priority = 1, TimeLimit = TimeSpan.FromSeconds(1.5), SharePrefix = false, PrefixIdentity = "tenant", PromptLogits = true, Tag = 7,
            }.ToString());
    }

    [Fact]
    public void A_prefill_only_request_leaves_its_prompt_in_the_cache()
    {
        using var model = new CountingModel(blocks: 20, blockSize: 4);
        GenerationRequest request = model.Scheduler.Add(Prompt(10), 0);
        BatchStep step = model.Scheduler.Next();
        Assert.True(step.LogitRows.IsEmpty);
        model.Scheduler.Complete(model.Run(step));
        Assert.Equal((GenerationState.Finished, FinishReason.Length, 10), (request.State, request.FinishReason, request.Tokens.Length));
        model.AssertNothingLeaked();
        GenerationRequest next = model.Scheduler.Add([.. Prompt(10), 3, 3], 2);
        model.RunToEnd();
        Assert.Equal(10, next.SharedTokens);
        AssertText(next);
    }

    [Theory]
    [InlineData(512, 0)]
    [InlineData(5, 3)]
    [InlineData(3, 2)]
    public void Logits_of_a_prompt_come_for_each_token_once(int tokensPerStep, int newTokens)
    {
        using var model = new CountingModel(blocks: 20, blockSize: 4, new() { MaxTokensPerStep = tokensPerStep });
        int[] prompt = Prompt(14);
        model.Scheduler.Add(prompt, 2);
        model.RunToEnd();
        GenerationRequest request = model.Scheduler.Add(prompt, new GenerationOptions { MaxNewTokens = newTokens, PromptLogits = true });
        List<int> sampled = [];
        for (int steps = 0; !request.HasEnded; steps++)
        {
            BatchStep step = model.Scheduler.Next();
            int[] own = model.Run(step);
            if (steps == 1)
            {
                // Given up in the middle: its rows come again with the next step, and count once.
                model.Scheduler.Abandon();
                continue;
            }

            sampled.AddRange(own);
            CacheSequence sequence = step.Runs[0].Sequence;
            model.Scheduler.Complete(own);

            // Somebody frees its sequence in the middle of the prompt: all is computed again, and nothing is said twice.
            if (steps == 2 && !request.HasEnded) model.Cache.Free(sequence);
        }

        int[] all = [.. prompt, .. CountingModel.Continue(prompt, newTokens)];
        Assert.Equal(Enumerable.Range(1, Math.Max(14, 13 + newTokens)).Select(length => CountingModel.Next(all.AsSpan(0, length))), sampled);
        Assert.Equal(0, request.SharedTokens);
        AssertText(request);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Logits_of_a_prompt_are_not_given_twice_though_it_is_put_back()
    {
        using var model = new CountingModel(blocks: 6, blockSize: 2, new() { SharePrefixes = false });
        model.Scheduler.Add([1, 2], 9);
        GenerationRequest young = model.Scheduler.Add([3, 4], new GenerationOptions { MaxNewTokens = 9, PromptLogits = true });
        int rows = 0;
        while (model.Scheduler.HasWork)
        {
            BatchStep step = model.Scheduler.Next();
            foreach (ScheduledRun run in step.Runs) rows += run.Request == young ? run.LogitCount : 0;
            model.Scheduler.Complete(model.Run(step));
        }

        Assert.True(young.Preemptions > 0);
        Assert.Equal(2 + 8, rows);
        AssertText(young);
    }

    [Fact]
    public void A_request_may_keep_to_itself()
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4);
        var alone = new GenerationOptions { MaxNewTokens = 2, SharePrefix = false };
        model.Scheduler.Add(Prompt(10), 2);
        model.RunToEnd();
        GenerationRequest request = model.Scheduler.Add(Prompt(10), alone);
        model.RunToEnd();
        Assert.Equal(0, request.SharedTokens);
        model.Scheduler.Add([4, 4, 4, 4, 4, 4], alone);
        model.RunToEnd();
        GenerationRequest next = model.Scheduler.Add([4, 4, 4, 4, 4, 4], 2);
        model.RunToEnd();
        Assert.Equal(0, next.SharedTokens);
        AssertText(next);
    }

    [Fact]
    public void Prefixes_are_shared_within_an_identity()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4) { Weights = static request => request.Options.PrefixIdentity?.Length ?? 0 };
        string?[] identities = [null, "a", "bb", null, "a", "bb", "a"];
        GenerationRequest[] requests = [.. identities.Select(identity => model.Scheduler.Add(Prompt(30), new GenerationOptions { MaxNewTokens = 5, PrefixIdentity = identity }))];
        model.Step();
        Assert.Equal((3, 4), (model.Scheduler.RunningCount, model.Scheduler.WaitingCount));
        model.RunToEnd();
        Assert.Equal([0, 0, 0, 29, 29, 29, 29], requests.Select(static request => request.SharedTokens));
        foreach (GenerationRequest request in requests) AssertText(request);

        CacheSequence found = model.Cache.CreateSequence(Prompt(30), out int tokens, "bb");
        Assert.Equal((28, 0), (tokens, Found("other")));
        model.Cache.Free(found);

        int Found(string identity)
        {
            model.Cache.Free(model.Cache.CreateSequence(Prompt(30), out int cached, identity));
            return cached;
        }
    }

    [Theory]
    [InlineData(3, 2)]
    [InlineData(7, 1)]
    [InlineData(10, 6)]
    [InlineData(8, 3)]
    public void Samples_of_a_prompt_compute_it_once(int promptLength, int tokens)
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4, new() { MaxTokensPerStep = 6 });
        GenerationRequest first = model.Scheduler.Add(Prompt(promptLength), tokens);
        GenerationRequest[] samples = [first, model.Scheduler.Fork(first), model.Scheduler.Fork(first)];
        model.RunToEnd();
        GenerationRequest late = model.Scheduler.Fork(first, new() { MaxNewTokens = 2 });
        model.RunToEnd();
        foreach (GenerationRequest sample in samples) AssertText(sample);
        Assert.Equal([promptLength - 1, promptLength - 1], samples[1..].Select(static sample => sample.SharedTokens));
        Assert.Equal(promptLength + tokens - 1 + (2 * tokens) + 2, model.Scheduler.ComputedTokens - (late.PromptLength - 1 - late.SharedTokens));
        Assert.InRange(late.SharedTokens, promptLength + tokens - 2, late.PromptLength - 1);
        Assert.Equal(promptLength + tokens, late.PromptLength);
        AssertText(late);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void A_running_request_can_be_forked_again_and_again()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 8);
        GenerationRequest trunk = model.Scheduler.Add(Prompt(5), 12);
        List<GenerationRequest> branches = [];
        while (!trunk.HasEnded)
        {
            model.Step();
            if (!trunk.HasEnded) branches.Add(model.Scheduler.Fork(trunk));
        }

        model.RunToEnd();
        Assert.Equal(11, branches.Count);
        foreach (GenerationRequest branch in branches)
        {
            Assert.Equal(trunk.Tokens.ToArray(), branch.Tokens.ToArray());
            Assert.InRange(branch.SharedTokens, branch.PromptLength - 2, branch.PromptLength - 1);
        }

        model.AssertNothingLeaked();
    }

    [Fact]
    public void A_request_says_why_it_has_ended()
    {
        using var model = new CountingModel(blocks: 20, blockSize: 4);
        int[] text = CountingModel.Continue([1], 10);
        GenerationRequest length = model.Scheduler.Add([1], 3), stop = model.Scheduler.Add([1], 10, text[0]), cancelled = model.Scheduler.Add([2], 3);
        Assert.Equal(FinishReason.None, length.FinishReason);
        model.Scheduler.Cancel(cancelled);
        model.RunToEnd();
        Assert.Equal((FinishReason.Length, FinishReason.Stop, FinishReason.Cancelled), (length.FinishReason, stop.FinishReason, cancelled.FinishReason));
    }

    [Fact]
    public void A_request_whose_time_is_over_ends_with_what_it_has()
    {
        var clock = new ManualClock();
        using var model = new CountingModel(blocks: 20, blockSize: 4, new() { TimeProvider = clock, MaxRunningRequests = 1 });
        GenerationRequest running = Add(10), waiting = Add(20), lasting = model.Scheduler.Add([3], 4);
        model.Step();
        clock.Now += TimeSpan.FromSeconds(9.9);
        model.Step();
        Assert.Equal((GenerationState.Running, 2), (running.State, running.GeneratedTokens.Length));
        clock.Now += TimeSpan.FromSeconds(0.1);
        BatchStep step = model.Scheduler.Next();
        Assert.Equal((FinishReason.DeadlineExceeded, GenerationState.Cancelled, 2), (running.FinishReason, running.State, running.GeneratedTokens.Length));
        Assert.Same(waiting, step.Runs[0].Request);
        clock.Now += TimeSpan.FromSeconds(60);
        model.Scheduler.Complete(model.Run(step));
        Assert.Equal(1, waiting.GeneratedTokens.Length);
        model.RunToEnd();
        Assert.Equal((FinishReason.DeadlineExceeded, FinishReason.Length), (waiting.FinishReason, lasting.FinishReason));
        model.AssertNothingLeaked();

        GenerationRequest Add(int seconds) => model.Scheduler.Add([1, 2], new GenerationOptions { MaxNewTokens = 9, TimeLimit = TimeSpan.FromSeconds(seconds) });
    }

    [Fact]
    public async Task A_loop_that_waits_wakes_when_time_is_over()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        model.Cache.Extend(model.Cache.CreateSequence(), 14);
        GenerationRequest request = model.Scheduler.Add([1, 2, 3, 4, 5], new GenerationOptions { MaxNewTokens = 1, TimeLimit = TimeSpan.FromMilliseconds(60) });
        long end = Environment.TickCount64 + 30_000;
        while (!request.HasEnded)
        {
            Assert.True(Environment.TickCount64 < end);
            Assert.False(model.Scheduler.TryNext(out _));
            if (!request.HasEnded) Assert.True(await model.Scheduler.WaitForWorkAsync(Stop).WaitAsync(TimeSpan.FromSeconds(30), Stop));
        }

        Assert.Equal(FinishReason.DeadlineExceeded, request.FinishReason);
    }

    [Fact]
    public async Task A_pause_stops_steps_and_new_weights_compute_everything_anew()
    {
        int weights = 1;
        using var model = new CountingModel(blocks: 20, blockSize: 4) { Weights = _ => weights };
        GenerationRequest first = model.Scheduler.Add(Prompt(9), 8), second = model.Scheduler.Add(Prompt(6), 8);
        model.Step();
        model.Step();
        BatchStep step = model.Scheduler.Next();
        model.Scheduler.Pause();
        Assert.Throws<InvalidOperationException>(() => model.Scheduler.Resume(recompute: true));
        model.Scheduler.Complete(model.Run(step));
        Assert.False(model.Scheduler.TryNext(out _));
        Task<bool> wait = model.Scheduler.WaitForWorkAsync(Stop);
        GenerationRequest third = model.Scheduler.Add(Prompt(9), 3);
        await Task.Delay(20, Stop);
        Assert.False(wait.IsCompleted);
        weights = 2;
        model.Scheduler.Resume(recompute: true);
        Assert.True(await wait.WaitAsync(TimeSpan.FromSeconds(30), Stop));
        Assert.Equal((0, 0), (model.Cache.UsedBlocks, first.Preemptions));
        model.RunToEnd();       // reads every key of every step and sees whose they are
        foreach (GenerationRequest request in (GenerationRequest[])[first, second, third]) AssertText(request);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Options_out_of_range_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new GenerationOptions { MaxNewTokens = -1 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new GenerationOptions { TimeLimit = TimeSpan.Zero });
        Assert.True(new GenerationOptions { StopTokens = default }.StopTokens.IsEmpty);
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { MaxPromptShare = 0 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { MaxPromptShare = double.NaN });
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { LookAhead = -1 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { MaxOvertakes = 0 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { MaxWaitingRequests = 0 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { Window = -1 });
        Assert.Throws<ArgumentNullException>(() => new BatchSchedulerOptions { TimeProvider = null! });
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        Assert.Throws<ArgumentNullException>("options", () => model.Scheduler.Add([1], (GenerationOptions)null!));
        Assert.Throws<ArgumentOutOfRangeException>("window", () => model.Cache.CreateSequence([1], out _, window: -1));
    }

    private static void AssertText(GenerationRequest request)
    {
        Assert.Equal(GenerationState.Finished, request.State);
        Assert.Equal(CountingModel.Continue(request.Tokens[..request.PromptLength], request.MaxNewTokens), request.GeneratedTokens.ToArray());
    }

    private static int[] Prompt(int length) => [.. Enumerable.Range(0, length).Select(static i => i * i % 5)];
}
