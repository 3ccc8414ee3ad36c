using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>What the scheduler promises, one promise at a time.</summary>
public sealed class BatchSchedulerTests
{
    [Fact]
    public void One_request_is_prefilled_and_decoded()
    {
        using var model = new CountingModel(blocks: 10, blockSize: 4);
        GenerationRequest request = model.Scheduler.Add([1, 2, 3], 4);
        Assert.Equal((GenerationState.Waiting, 0L, 3, 4), (request.State, request.Id, request.PromptLength, request.MaxNewTokens));
        Assert.Equal([3, 1, 1, 1], StepSizes(model));
        Assert.Equal(GenerationState.Finished, request.State);
        Assert.Equal(CountingModel.Continue([1, 2, 3], 4), request.GeneratedTokens.ToArray());
        Assert.Equal([1, 2, 3], request.Tokens[..3].ToArray());
        model.AssertNothingLeaked();
    }

    [Fact]
    public void A_long_prompt_runs_in_chunks_beside_decoding()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4, new() { MaxTokensPerStep = 8 });
        GenerationRequest first = model.Scheduler.Add([1, 2, 3], 6);
        model.Step();
        GenerationRequest second = model.Scheduler.Add(Prompt(20), 1);
        var sizes = new List<(int, int)>();
        while (model.Scheduler.HasWork)
        {
            BatchStep step = model.Scheduler.Next();
            Assert.True(step.Tokens.Length <= 8);
            sizes.Add((Tokens(step, first), Tokens(step, second)));
            model.Scheduler.Complete(model.Run(step));
        }

        Assert.Equal([(1, 7), (1, 7), (1, 6), (1, 0), (1, 0)], sizes);
        AssertText(first);
        AssertText(second);
    }

    [Fact]
    public void A_prompt_in_progress_leaves_a_token_for_each_younger_request()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4, new() { MaxTokensPerStep = 10, SharePrefixes = false });
        GenerationRequest longer = model.Scheduler.Add(Prompt(24), 1);
        model.Step();
        GenerationRequest shorter = model.Scheduler.Add([1, 2], 9);
        Assert.Equal([(8, 2), (6, 1), (0, 1)], Sizes(model, longer, shorter).Take(3));
    }

    [Fact]
    public void A_waiting_request_is_admitted_when_its_blocks_are_free()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        GenerationRequest first = model.Scheduler.Add(Prompt(12), 2);
        GenerationRequest second = model.Scheduler.Add(Prompt(5, from: 50), 2);
        Assert.True(model.Step());
        Assert.Equal((GenerationState.Running, GenerationState.Waiting), (first.State, second.State));
        model.RunToEnd();
        AssertText(first);
        AssertText(second);
        Assert.Equal(0, model.Scheduler.Preemptions);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Without_a_look_ahead_nobody_overtakes()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4, new() { LookAhead = 0 });
        model.Scheduler.Add(Prompt(8), 5);
        GenerationRequest large = model.Scheduler.Add(Prompt(13, from: 30), 2);
        GenerationRequest small = model.Scheduler.Add([1], 1);
        model.Step();
        Assert.Equal((GenerationState.Waiting, GenerationState.Waiting), (large.State, small.State));
    }

    [Fact]
    public void When_the_pool_is_full_the_youngest_is_put_back_and_nothing_is_lost()
    {
        using var model = new CountingModel(blocks: 6, blockSize: 2, new() { SharePrefixes = false });
        GenerationRequest old = model.Scheduler.Add([1, 2], 9);
        GenerationRequest young = model.Scheduler.Add([3, 4], 9);
        model.RunToEnd();
        AssertText(old);
        AssertText(young);
        Assert.Equal((0, 1), (old.Preemptions, young.Preemptions));
        Assert.Equal(1, model.Scheduler.Preemptions);
        Assert.True(model.Scheduler.ComputedTokens > 2 * 10);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void A_request_that_was_put_back_finds_its_own_blocks_again_if_nobody_took_them()
    {
        using var model = new CountingModel(blocks: 6, blockSize: 2);
        model.Scheduler.Add([1, 2], 9);
        GenerationRequest young = model.Scheduler.Add([3, 4], 9);
        model.RunToEnd();
        AssertText(young);
        Assert.True(young.Preemptions > 0);
        Assert.True(young.SharedTokens > 0);
    }

    [Fact]
    public void Prompts_that_begin_alike_are_stored_and_computed_once()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4);
        int[] instruction = Prompt(40);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 10).Select(i => model.Scheduler.Add([.. instruction, 100 + i, 7], 3))];
        model.Step();
        Assert.Equal((1, 9), (model.Scheduler.RunningCount, model.Scheduler.WaitingCount));     // the others wait for the common blocks
        model.Step();
        Assert.Equal(10, model.Scheduler.RunningCount);
        Assert.Equal(10 + 10, model.Cache.UsedBlocks);                                          // 10 common, one own each
        model.RunToEnd();
        foreach (GenerationRequest request in requests) AssertText(request);
        Assert.Equal(9 * 40, model.Scheduler.SharedTokens);
        Assert.Equal(40 + (10 * 4), model.Scheduler.ComputedTokens);
        model.AssertNothingLeaked();
        Assert.Equal(10 + 10, model.Cache.KeptBlocks);                                          // each own block became full with the last token but one
    }

    [Fact]
    public void Equal_prompts_of_whole_blocks_still_compute_their_last_token()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4);
        GenerationRequest first = model.Scheduler.Add(Prompt(8), 3);
        model.RunToEnd();
        GenerationRequest second = model.Scheduler.Add(Prompt(8), 3);
        model.RunToEnd();
        Assert.Equal(first.Tokens.ToArray(), second.Tokens.ToArray());
        Assert.Equal(7, second.SharedTokens);
    }

    [Fact]
    public void Without_sharing_nothing_is_published()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4, new() { SharePrefixes = false });
        model.Scheduler.Add(Prompt(8), 3);
        model.Scheduler.Add(Prompt(8), 3);
        model.RunToEnd();
        Assert.Equal((0L, 0), (model.Scheduler.SharedTokens, model.Cache.KeptBlocks));
    }

    [Fact]
    public void A_stop_token_ends_a_request()
    {
        using var model = new CountingModel(blocks: 100, blockSize: 4);
        int stop = CountingModel.Continue([1, 2, 3], 50)[7];
        GenerationRequest request = model.Scheduler.Add([1, 2, 3], 50, stop);
        model.RunToEnd();
        Assert.Equal(CountingModel.Continue([1, 2, 3], 50, [stop]), request.GeneratedTokens.ToArray());
        Assert.Equal(stop, request.GeneratedTokens[^1]);
        Assert.Equal(GenerationState.Finished, request.State);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Waiting_and_running_requests_can_be_cancelled()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        GenerationRequest running = model.Scheduler.Add(Prompt(12), 4);
        GenerationRequest waiting = model.Scheduler.Add(Prompt(12, from: 40), 4);
        model.Step();
        Assert.True(model.Scheduler.Cancel(waiting));
        Assert.True(model.Scheduler.Cancel(running));
        Assert.False(model.Scheduler.Cancel(running));
        Assert.Equal((GenerationState.Cancelled, true), (running.State, running.HasEnded));
        Assert.Equal(1, running.GeneratedTokens.Length);
        model.AssertNothingLeaked();
        Assert.False(model.Step());
    }

    [Fact]
    public void A_request_cancelled_during_a_step_keeps_its_blocks_until_the_step_ends()
    {
        using var model = new CountingModel(blocks: 20, blockSize: 4);
        GenerationRequest first = model.Scheduler.Add([1, 2, 3], 4), second = model.Scheduler.Add([4, 5], 4);
        BatchStep step = model.Scheduler.Next();
        int[] sampled = model.Run(step);
        Assert.True(model.Scheduler.Cancel(first));
        Assert.Equal(2, model.Cache.UsedBlocks);
        model.Scheduler.Complete(sampled);
        Assert.Equal(1, model.Cache.UsedBlocks);
        Assert.True(first.GeneratedTokens.IsEmpty);
        model.RunToEnd();
        AssertText(second);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void An_abandoned_step_leaves_no_trace()
    {
        using var model = new CountingModel(blocks: 20, blockSize: 4);
        GenerationRequest first = model.Scheduler.Add([1, 2, 3, 4], 4), second = model.Scheduler.Add([9, 5], 4);
        model.Step();
        int used = model.Cache.UsedBlocks;
        model.Scheduler.Next();
        Assert.True(model.Cache.UsedBlocks > used);
        model.Scheduler.Cancel(second);
        model.Scheduler.Abandon();
        Assert.Equal(used - 1, model.Cache.UsedBlocks);
        model.RunToEnd();
        AssertText(first);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Blocks_held_by_others_make_a_step_empty_and_nothing_is_lost()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        CacheSequence other = model.Cache.CreateSequence();
        model.Cache.Extend(other, 8);
        GenerationRequest request = model.Scheduler.Add(Prompt(7), 5);
        while (model.Step())
        {
        }

        Assert.True(model.Scheduler.HasWork);
        Assert.Equal(2, model.Cache.UsedBlocks);
        model.Cache.Free(other);
        model.RunToEnd();
        AssertText(request);
    }

    [Fact]
    public void Disposing_frees_all_blocks()
    {
        using var cache = new PagedKeyValueCache<float>(new() { Blocks = 10, BlockSize = 4, KeyValueHeads = 1, KeyDim = 1 });
        BatchScheduler scheduler = BatchScheduler.Create(cache);
        GenerationRequest request = scheduler.Add([1, 2, 3], 4);
        scheduler.Next();
        Assert.Equal(1, cache.UsedBlocks);
        scheduler.Dispose();
        scheduler.Dispose();
        Assert.Equal((0, 0, GenerationState.Cancelled), (cache.UsedBlocks, cache.SequenceCount, request.State));
        Assert.Throws<ObjectDisposedException>(() => scheduler.Next());
        Assert.Throws<ObjectDisposedException>(() => scheduler.Add([1], 1));
        cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => BatchScheduler.Create(cache).Next());
    }

    [Fact]
    public void Wrong_use_is_refused_and_changes_nothing()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        using var other = new CountingModel(blocks: 4, blockSize: 4);
        BatchScheduler scheduler = model.Scheduler;
        Assert.Throws<ArgumentException>("prompt", () => scheduler.Add([], 1));
        Assert.Throws<ArgumentOutOfRangeException>("maxNewTokens", () => scheduler.Add([1], -1));
        ArgumentException tooLong = Assert.Throws<ArgumentException>("maxNewTokens", () => scheduler.Add(Prompt(10), 8));
        Assert.Contains("10 prompt tokens and 8 new ones need room for 17, but the whole cache has 4 blocks of 4", tooLong.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => scheduler.Complete([]));
        Assert.Throws<InvalidOperationException>(scheduler.Abandon);
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { MaxTokensPerStep = 0 });
        Assert.Throws<ArgumentOutOfRangeException>(() => new BatchSchedulerOptions { MaxRunningRequests = 0 });
        Assert.True(scheduler.Next().IsEmpty);

        GenerationRequest request = scheduler.Add(Prompt(10), 7);
        Assert.Throws<ArgumentException>("request", () => other.Scheduler.Cancel(request));
        int[] sampled = model.Run(scheduler.Next());
        Assert.Throws<InvalidOperationException>(() => scheduler.Next());
        Assert.Throws<ArgumentException>("sampledTokens", () => scheduler.Complete([]));
        Assert.Throws<ArgumentException>("sampledTokens", () => scheduler.Complete([1, 2]));
        scheduler.Complete(sampled);
        model.RunToEnd();
        AssertText(request);
        Assert.Equal(4, model.Cache.KeptBlocks);     // it has filled the pool to the last slot
    }

    private static void AssertText(GenerationRequest request)
    {
        Assert.Equal(GenerationState.Finished, request.State);
        Assert.Equal(CountingModel.Continue(request.Tokens[..request.PromptLength], request.MaxNewTokens), request.GeneratedTokens.ToArray());
    }

    private static int[] Prompt(int length, int from = 0) => [.. Enumerable.Range(from, length)];

    private static int Tokens(BatchStep step, GenerationRequest request)
    {
        foreach (ScheduledRun run in step.Runs)
            if (run.Request == request) return run.TokenCount;
        return 0;
    }

    private static List<int> StepSizes(CountingModel model)
    {
        var sizes = new List<int>();
        while (model.Scheduler.HasWork)
        {
            BatchStep step = model.Scheduler.Next();
            sizes.Add(step.Tokens.Length);
            model.Scheduler.Complete(model.Run(step));
        }

        return sizes;
    }

    private static List<(int, int)> Sizes(CountingModel model, GenerationRequest first, GenerationRequest second)
    {
        var sizes = new List<(int, int)>();
        while (model.Scheduler.HasWork)
        {
            BatchStep step = model.Scheduler.Next();
            sizes.Add((Tokens(step, first), Tokens(step, second)));
            model.Scheduler.Complete(model.Run(step));
        }

        return sizes;
    }
}
