using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>Nobody waits for what others want, longer than was agreed.</summary>
public sealed class FairnessTests
{
    [Theory]
    [InlineData(1, 6)]
    [InlineData(5, 12)]
    [InlineData(20, 24)]
    public void Short_prompts_do_not_wait_for_long_ones(int longPrompts, int mostSteps)
    {
        using var cache = new PagedKeyValueCache<Half>(new() { Blocks = 30_000, BlockSize = 16, KeyValueHeads = 1, KeyDim = 1 });
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 512, SharePrefixes = false });
        GenerationRequest[] longs = [.. Enumerable.Range(0, longPrompts).Select(_ => Add(20_000))];
        for (int i = 0; i < 8; i++) Step();
        GenerationRequest[] shorts = [.. Enumerable.Range(0, 8).Select(_ => Add(100))];
        int steps = 0;
        while (shorts.Any(static request => request.GeneratedTokens.IsEmpty))
        {
            Step();
            steps++;
        }

        Assert.InRange(steps, 2, mostSteps);
        Assert.True(longs[0].GeneratedTokens.IsEmpty);

        GenerationRequest Add(int tokens) => scheduler.Add(new int[tokens], 4);

        void Step() => scheduler.Complete(new int[scheduler.Next().LogitRows.Length]);
    }

    [Theory]
    [InlineData(0.5)]
    [InlineData(0.125)]
    [InlineData(1)]
    public void The_first_prompt_keeps_to_its_share(double share)
    {
        using var model = new CountingModel(blocks: 400, blockSize: 4, new() { MaxTokensPerStep = 64, MaxPromptShare = share, SharePrefixes = false });
        GenerationRequest first = model.Scheduler.Add(new int[500], 1);
        model.Scheduler.Add(new int[500], 1);
        model.Step();
        BatchStep step = model.Scheduler.Next();
        Assert.Equal(64, step.Tokens.Length);
        Assert.Same(first, step.Runs[0].Request);
        // With all of it, the second one is not even admitted.
        Assert.Equal(share == 1 ? 64 : (int)(62 * share) + 1, step.Runs[0].TokenCount);
        model.Scheduler.Abandon();
    }

    [Fact]
    public void What_fits_passes_what_does_not_and_only_so_often()
    {
        using var model = new CountingModel(blocks: 10, blockSize: 4, new() { MaxOvertakes = 3, SharePrefixes = false });
        GenerationRequest running = model.Scheduler.Add(Prompt(8), 9);
        model.Step();
        GenerationRequest large = model.Scheduler.Add(Prompt(36), 1);
        GenerationRequest[] small = [.. Enumerable.Range(0, 5).Select(i => model.Scheduler.Add([i], 1))];
        Assert.True(model.Step());
        Assert.Equal(GenerationState.Waiting, large.State);
        Assert.Equal([true, true, true, false, false], small.Select(static request => request.HasEnded));
        while (!running.HasEnded)
        {
            Assert.Equal([false, false], small[3..].Select(static request => request.State == GenerationState.Running || request.HasEnded));
            model.Step();
        }

        model.Step();
        Assert.NotEqual(GenerationState.Waiting, large.State);
        model.RunToEnd();
        model.AssertNothingLeaked();
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public void The_look_ahead_is_bounded(int lookAhead, bool found)
    {
        using var model = new CountingModel(blocks: 10, blockSize: 4, new() { LookAhead = lookAhead, SharePrefixes = false });
        model.Scheduler.Add(Prompt(8), 9);
        model.Step();
        model.Scheduler.Add(Prompt(36), 1);
        model.Scheduler.Add(Prompt(35), 1);
        GenerationRequest small = model.Scheduler.Add([1], 1);
        model.Step();
        Assert.Equal(found, small.HasEnded);
    }

    [Fact]
    public void Who_waits_for_a_prefix_holds_up_nobody_and_finds_it()
    {
        using var model = new CountingModel(blocks: 200, blockSize: 4, new() { MaxTokensPerStep = 20 });
        int[] prompt = Prompt(80);
        GenerationRequest first = model.Scheduler.Add(prompt, 2);
        model.Step();
        GenerationRequest twin = model.Scheduler.Add(prompt, 2), other = model.Scheduler.Add([1, 2, 3], 1);
        model.Step();
        Assert.Equal((GenerationState.Waiting, GenerationState.Finished), (twin.State, other.State));
        Assert.Equal(1, model.Scheduler.WaitingCount);
        model.RunToEnd();
        Assert.Equal(79, twin.SharedTokens);
        Assert.Equal(first.Tokens.ToArray(), twin.Tokens.ToArray());
        Assert.Equal(80 + 1 + 1 + 1 + 3, model.Scheduler.ComputedTokens);
        model.AssertNothingLeaked();
    }

    [Theory]
    [InlineData("cancel")]
    [InlineData("forget")]
    [InlineData("change")]
    public void Who_waits_for_a_prefix_goes_on_when_nobody_computes_it_any_more(string what)
    {
        using var model = new CountingModel(blocks: 200, blockSize: 4, new() { MaxTokensPerStep = 20 });
        int[] prompt = Prompt(80);
        GenerationRequest first = model.Scheduler.Add(prompt, 2);
        model.Step();
        GenerationRequest twin = model.Scheduler.Add(prompt, 2);
        model.Step();
        CacheSequence sequence = model.Scheduler.Next().Runs[0].Sequence;
        model.Scheduler.Abandon();
        if (what is "cancel") model.Scheduler.Cancel(first);
        else if (what is "forget") model.Cache.ForgetPrefixes();
        else model.Cache.Free(sequence);
        model.RunToEnd();
        Assert.Equal(CountingModel.Continue(prompt, 2), twin.GeneratedTokens.ToArray());
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Higher_priorities_come_first_and_are_put_back_last()
    {
        using var model = new CountingModel(blocks: 6, blockSize: 2, new() { SharePrefixes = false, MaxRunningRequests = 2 });
        GenerationRequest low = Add([1, 2], 9, -1), middle = Add([3, 4], 9, 0), high = Add([5, 6], 9, 5);
        model.Step();
        Assert.Equal((GenerationState.Waiting, GenerationState.Running, GenerationState.Running), (low.State, middle.State, high.State));
        Assert.Same(high, model.Scheduler.Next().Runs[0].Request);
        model.Scheduler.Abandon();
        model.RunToEnd();
        Assert.Equal((0, true), (high.Preemptions, middle.Preemptions > 0));
        foreach (GenerationRequest request in (GenerationRequest[])[low, middle, high])
            Assert.Equal(CountingModel.Continue(request.Tokens[..2], 9), request.GeneratedTokens.ToArray());

        GenerationRequest Add(int[] prompt, int tokens, int priority) => model.Scheduler.Add(prompt, new GenerationOptions { MaxNewTokens = tokens, Priority = priority });
    }

    [Fact]
    public void A_low_priority_is_served_though_higher_ones_keep_coming()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4, new() { MaxRunningRequests = 1, MaxOvertakes = 5 });
        GenerationRequest[] low = [.. Enumerable.Range(0, 3).Select(i => model.Scheduler.Add([i], new GenerationOptions { MaxNewTokens = 1 }))];
        int steps = 0;
        for (; low.Any(static request => !request.HasEnded); steps++)
        {
            for (int i = 0; i < 2; i++) model.Scheduler.Add([4], new GenerationOptions { MaxNewTokens = 1, Priority = 1 });
            model.Step();
        }

        Assert.Equal(3 * (5 + 1), steps);
    }

    [Fact]
    public void A_full_queue_refuses_and_says_why()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4, new() { MaxWaitingRequests = 2 });
        BatchScheduler scheduler = model.Scheduler;
        GenerationRequest first = scheduler.Add([1], 2);
        scheduler.Add([2], 2);
        Assert.Equal(RequestRefusal.QueueFull, Assert.Throws<RequestRefusedException>(() => scheduler.Add([3], 2)).Refusal);
        Assert.Equal(RequestRefusal.QueueFull, scheduler.TryAdd([3], new(), out GenerationRequest? refused));
        Assert.Null(refused);
        Assert.Equal(RequestRefusal.TooLong, scheduler.TryAdd(new int[17], new(), out _));
        scheduler.Cancel(first);
        Assert.Equal(RequestRefusal.None, scheduler.TryAdd([3], new(), out refused));
        Assert.NotNull(refused);
        model.Step();
        scheduler.Add([5], 1);
        scheduler.StopAccepting();
        Assert.Equal(RequestRefusal.Stopping, scheduler.TryAdd([3], new(), out _));
        Assert.Equal(RequestRefusal.Stopping, Assert.Throws<RequestRefusedException>(() => scheduler.Add([3], 2)).Refusal);
        model.RunToEnd();
    }

    [Fact]
    public async Task A_scheduler_that_stops_ends_what_it_has()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        GenerationRequest request = model.Scheduler.Add([1, 2], 3);
        model.Scheduler.StopAccepting();
        int steps = 0;
        while (await model.Scheduler.WaitForWorkAsync(TestContext.Current.CancellationToken)) steps += model.Step() ? 1 : 0;
        Assert.Equal((3, FinishReason.Length), (steps, request.FinishReason));
    }

    private static int[] Prompt(int length) => [.. Enumerable.Range(0, length).Select(static i => i % 5)];
}
