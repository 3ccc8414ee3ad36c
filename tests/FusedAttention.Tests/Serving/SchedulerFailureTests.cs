using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>Somebody changes the sequences of requests, or a call fails in the middle: nothing is half done, and whatever runs later is right.</summary>
public sealed class SchedulerFailureTests
{
    /// <summary>What is done to the sequence of a request: its tokens now, and how many were computed before the step.</summary>
    public static TheoryData<string, Action<KeyValueCache, CacheSequence>> Changes { get; } = new()
    {
        { "dropped", static (cache, sequence) => cache.DropBefore(sequence, cache.GetLength(sequence)) },
        { "truncated", static (cache, sequence) => cache.Truncate(sequence, cache.GetLength(sequence) / 2) },
        { "emptied", static (cache, sequence) => cache.Truncate(sequence, 0) },
        { "extended", static (cache, sequence) => cache.Extend(sequence, 3) },
        { "freed", static (cache, sequence) => cache.Free(sequence) },
        { "freed and replaced", static (cache, sequence) => { cache.Free(sequence); cache.Extend(cache.CreateSequence(), 3); } },
        { "nothing", static (_, _) => { } },
    };

    [Theory]
    [MemberData(nameof(Changes), DisableDiscoveryEnumeration = true)]
    public void A_step_with_a_changed_sequence_can_be_abandoned(string what, Action<KeyValueCache, CacheSequence> change)
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4, new() { MaxTokensPerStep = 16 });
        GenerationRequest[] requests = Start(model);
        BatchStep step = model.Scheduler.Next();
        change(model.Cache, step.Runs[1].Sequence);
        model.Scheduler.Abandon();
        Finish(model, requests, what);
    }

    [Theory]
    [MemberData(nameof(Changes), DisableDiscoveryEnumeration = true)]
    public void A_sequence_changed_between_steps_starts_again(string what, Action<KeyValueCache, CacheSequence> change)
    {
        // Tokens that were dropped are a window's business between steps; the model here reads all of them.
        if (what is "dropped") return;
        using var model = new CountingModel(blocks: 40, blockSize: 4, new() { MaxTokensPerStep = 16 });
        GenerationRequest[] requests = Start(model);
        BatchStep step = model.Scheduler.Next();
        CacheSequence sequence = step.Runs[1].Sequence;
        model.Scheduler.Complete(model.Run(step));
        change(model.Cache, sequence);
        Finish(model, requests, what);
    }

    [Theory]
    [MemberData(nameof(Changes), DisableDiscoveryEnumeration = true)]
    public void A_step_with_a_changed_sequence_is_not_completed(string what, Action<KeyValueCache, CacheSequence> change)
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4, new() { MaxTokensPerStep = 16 });
        GenerationRequest[] requests = Start(model);
        BatchStep step = model.Scheduler.Next();
        int[] sampled = model.Run(step);
        int[] lengths = [.. requests.Select(static request => request.Tokens.Length)];
        long computed = model.Scheduler.ComputedTokens;
        change(model.Cache, step.Runs[1].Sequence);
        if (what is "dropped" or "nothing")
        {
            model.Scheduler.Complete(sampled);
            Assert.Equal(1, requests[1].Tokens.Length - lengths[1]);
            return;
        }

        for (int again = 0; again < 2; again++)
        {
            InvalidOperationException refused = Assert.Throws<InvalidOperationException>(() => model.Scheduler.Complete(sampled));
            Assert.Contains($"of {requests[1]} was changed by somebody else during the step", refused.Message, StringComparison.Ordinal);
            Assert.Equal(lengths, requests.Select(static request => request.Tokens.Length));
            Assert.Equal(computed, model.Scheduler.ComputedTokens);
        }

        model.Scheduler.Abandon();
        Finish(model, requests, what);
    }

    [Fact]
    public void A_request_whose_sequence_was_changed_can_be_cancelled_and_the_step_completed()
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4, new() { MaxTokensPerStep = 16 });
        GenerationRequest[] requests = Start(model);
        BatchStep step = model.Scheduler.Next();
        int[] sampled = model.Run(step);
        model.Cache.Free(step.Runs[1].Sequence);
        Assert.Throws<InvalidOperationException>(() => model.Scheduler.Complete(sampled));
        model.Scheduler.Cancel(requests[1]);
        model.Scheduler.Complete(sampled);
        model.RunToEnd();
        AssertText(requests[0]);
        AssertText(requests[2]);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void Blocks_that_others_have_published_with_other_tokens_complete_nothing()
    {
        using var model = new CountingModel(blocks: 40, blockSize: 4, new() { MaxTokensPerStep = 16 });
        GenerationRequest first = model.Scheduler.Add([1, 2, 3, 4, 5], 4), second = model.Scheduler.Add([6, 7, 8, 9], 4);
        BatchStep step = model.Scheduler.Next();
        int[] sampled = model.Run(step);
        model.Cache.Publish(step.Runs[1].Sequence, [9, 9, 9, 9]);
        for (int again = 0; again < 2; again++)
        {
            InvalidOperationException refused = Assert.Throws<InvalidOperationException>(() => model.Scheduler.Complete(sampled));
            Assert.Contains("published by somebody else with other tokens", refused.Message, StringComparison.Ordinal);
            Assert.Equal((0, 0), (first.GeneratedTokens.Length, second.GeneratedTokens.Length));
        }

        model.Scheduler.Cancel(second);
        model.Scheduler.Complete(sampled);
        model.RunToEnd();
        AssertText(first);
    }

    /// <summary>What is written is where the scheduler says, at every step, with a window that drops blocks and a step that fails after it did.</summary>
    [Theory]
    [InlineData(true, 4)]
    [InlineData(false, 4)]
    [InlineData(true, 1)]
    public void A_window_drops_blocks_and_steps_fail(bool share, int blockSize)
    {
        const int Window = 4;
        using var cache = new PagedKeyValueCache<float>(new() { Blocks = 256 / blockSize, BlockSize = blockSize, KeyValueHeads = 1, KeyDim = 1 });
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 16, SharePrefixes = share });
        GenerationRequest[] requests = [scheduler.Add([.. Enumerable.Range(0, 40)], 12), scheduler.Add([1, 2, 3], 12)];
        var random = new Random(5);
        int abandoned = 0, steps = 0;
        while (scheduler.HasWork)
        {
            Assert.True(steps++ < 500, "The requests do not end.");
            BatchStep step = scheduler.Next();
            for (int i = 0; i < step.Runs.Length; i++)
            {
                ScheduledRun run = step.Runs[i];
                Assert.Equal(run.Position, step.Batch.Sequences.ContextLengths[i] - run.TokenCount);
                Assert.Equal(run.Position + run.TokenCount, cache.GetLength(run.Sequence));
                Assert.True(cache.GetFirstPosition(run.Sequence) <= Math.Max(0, run.Position - Window + 1), "The window of the first token has lost blocks.");
            }

            float[] rows = new float[step.Tokens.Length];
            cache.Write(0, step.Batch, rows, rows);
            foreach (ScheduledRun run in step.Runs) cache.DropBefore(run.Sequence, Math.Max(0, cache.GetLength(run.Sequence) - Window + 1));
            if (random.Next(3) == 0)
            {
                abandoned++;
                scheduler.Abandon();
            }
            else
            {
                scheduler.Complete(new int[step.LogitRows.Length]);
            }
        }

        Assert.True(abandoned > 3);
        Assert.All(requests, static request => Assert.Equal((GenerationState.Finished, 12), (request.State, request.GeneratedTokens.Length)));
        Assert.Equal((0, 0), (cache.UsedBlocks, cache.SequenceCount));
    }

    [Fact]
    public void A_cache_that_is_disposed_during_a_step_leaves_a_scheduler_that_says_so()
    {
        var model = new CountingModel(blocks: 40, blockSize: 4);
        GenerationRequest request = model.Scheduler.Add([1, 2, 3], 4);
        int[] sampled = model.Run(model.Scheduler.Next());
        model.Cache.Dispose();
        Assert.Throws<ObjectDisposedException>(() => model.Scheduler.Complete(sampled));
        Assert.True(request.GeneratedTokens.IsEmpty);
        model.Scheduler.Abandon();
        Assert.Throws<ObjectDisposedException>(() => model.Scheduler.Next());
        Assert.Throws<ObjectDisposedException>(() => model.Scheduler.Next());
        model.Scheduler.Cancel(request);
        model.Scheduler.Dispose();
    }

    /// <summary>Three requests, a step or two into their lives: one decodes, one decodes after a longer prompt, one is about to be admitted.</summary>
    private static GenerationRequest[] Start(CountingModel model)
    {
        GenerationRequest first = model.Scheduler.Add([1, 2, 3], 8), second = model.Scheduler.Add([4, 3, 2, 1, 0, 1, 2], 8);
        model.Step();
        model.Step();
        return [first, second, model.Scheduler.Add([2, 2], 5)];
    }

    private static void Finish(CountingModel model, GenerationRequest[] requests, string what)
    {
        model.RunToEnd();
        foreach (GenerationRequest request in requests) AssertText(request);
        if (what is "freed and replaced") Assert.Equal(1, model.Cache.SequenceCount);
        else model.AssertNothingLeaked();
    }

    private static void AssertText(GenerationRequest request)
    {
        Assert.Equal(GenerationState.Finished, request.State);
        Assert.Equal(CountingModel.Continue(request.Tokens[..request.PromptLength], request.MaxNewTokens), request.GeneratedTokens.ToArray());
    }
}
