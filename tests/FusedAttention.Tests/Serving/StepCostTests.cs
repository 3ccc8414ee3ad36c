using System.Diagnostics;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>A step's scheduling costs what its tokens cost: counted, not timed, wherever something can be counted.</summary>
public sealed class StepCostTests
{
    [Theory]
    [InlineData(1, 20_000)]
    [InlineData(16, 100_000)]
    public void Decoding_costs_the_same_in_a_long_context(int blockSize, int context)
    {
        using var cache = NewCache((context / blockSize) + 200, blockSize);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 8192 });
        GenerationRequest request = scheduler.Add(Prompt(context), 150);
        PagedBatch batch = scheduler.Next().Batch;
        scheduler.Abandon();
        while (request.GeneratedTokens.Length < 8) Step(scheduler);
        for (int i = 0; i < 100; i++)
        {
            // Half of the steps run drafts that are wrong, so that some tokens are taken back.
            if (i % 2 == 0) scheduler.Propose(request, [7, 7, 7]);
            long copied = batch.CopiedBlocks, lookUps = cache.Ledger.PrefixLookUps, entries = cache.Ledger.Entries;
            Step(scheduler);
            Assert.InRange(batch.CopiedBlocks - copied, 0, 6);
            Assert.InRange(cache.Ledger.PrefixLookUps - lookUps, 0, 2);
            Assert.InRange(cache.Ledger.Entries - entries, 1, 12);
        }
    }

    [Fact]
    public void Tables_are_as_wide_as_what_runs_now()
    {
        using var cache = NewCache(60_000, 16);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 1 << 20, SharePrefixes = false });
        scheduler.Add(Prompt(900_000), 3);
        for (int i = 0; i < 60; i++) scheduler.Add(Prompt(100), 30);
        Assert.InRange(Width(), 56_250, 2 * 56_250);
        while (scheduler.RunningCount == 61) Step(scheduler);
        Step(scheduler);
        Assert.InRange(Width(), 8, 32);

        int Width()
        {
            int width = scheduler.Next().Batch.Sequences.MaxBlocksPerSequence;
            scheduler.Abandon();
            return width;
        }
    }

    [Theory]
    [InlineData(100)]
    [InlineData(400)]
    public void Requests_that_begin_alike_are_admitted_without_being_compared(int requests)
    {
        const int Common = 4000;
        using var cache = NewCache(5000, 16);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 16_384, MaxRunningRequests = requests });
        int[] common = Prompt(Common);
        for (int i = 0; i < requests; i++) scheduler.Add([.. common, i, i + 1, 9], 50);
        Step(scheduler);
        Assert.Equal((1, requests - 1), (scheduler.RunningCount, scheduler.WaitingCount));
        long lookUps = cache.Ledger.PrefixLookUps;
        Step(scheduler);
        Assert.Equal(requests, scheduler.RunningCount);
        Assert.Equal((requests - 1) * Common, scheduler.SharedTokens);

        // The first one looks for the common blocks, the others for what is theirs; then each publishes its end.
        Assert.InRange(cache.Ledger.PrefixLookUps - lookUps, requests, (Common / 16) + (4 * requests));
    }

    [Fact]
    public void Those_that_wait_for_a_prefix_are_not_asked_in_every_step()
    {
        using var cache = NewCache(5000, 16);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 100 });
        int[] common = Prompt(4000);
        for (int i = 0; i < 300; i++) scheduler.Add(common, 5);
        Step(scheduler);
        for (int i = 0; i < 30; i++)
        {
            long entries = cache.Ledger.Entries;
            Step(scheduler);
            Assert.InRange(cache.Ledger.Entries - entries, 1, 12);
        }
    }

    [Fact]
    public void Requests_that_do_not_fit_are_asked_up_to_the_look_ahead()
    {
        using var cache = NewCache(100, 16);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { LookAhead = 8 });
        scheduler.Add(Prompt(400), 400);
        Step(scheduler);
        for (int i = 0; i < 300; i++) scheduler.Add(Prompt(1500), 5);
        for (int i = 0; i < 10; i++)
        {
            long entries = cache.Ledger.Entries;
            Step(scheduler);
            Assert.InRange(cache.Ledger.Entries - entries, 1, 12 + (2 * 9));
        }
    }

    /// <summary>The one cost with nothing to count. A search through the queue would take 64 times as long for 8 times as many.</summary>
    [Fact]
    public void Cancelling_costs_the_same_in_a_long_queue()
    {
        Cancel(1000);
        double few = Enumerable.Range(0, 4).Min(_ => Cancel(5000)), many = Enumerable.Range(0, 4).Min(_ => Cancel(40_000));
        Assert.True(many < 30 * few, $"{few} ms for 5,000, {many} ms for 40,000");

        static double Cancel(int requests)
        {
            using var cache = NewCache(100, 16);
            using BatchScheduler scheduler = BatchScheduler.Create(cache);
            GenerationRequest[] all = [.. Enumerable.Range(0, requests).Select(_ => scheduler.Add([1, 2, 3], 3))];
            long start = Stopwatch.GetTimestamp();
            for (int i = requests - 1; i >= 0; i--) scheduler.Cancel(all[i]);
            return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        }
    }

    [Fact]
    public void Steps_allocate_what_their_tokens_take()
    {
        using var cache = NewCache(2000, 16);
        using BatchScheduler scheduler = BatchScheduler.Create(cache);
        for (int i = 0; i < 20; i++) scheduler.Add([i, 2, 3], 1000);
        int[] sampled = new int[20];
        for (int i = 0; i < 600; i++) Run();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 300; i++) Run();

        // What is left is the requests' own: their tokens, and their blocks' keys and entries, which grow by doubling.
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 20 * 300 * 32);

        void Run() => scheduler.Complete(sampled.AsSpan(0, scheduler.Next().LogitRows.Length));
    }

    private static void Step(BatchScheduler scheduler) => scheduler.Complete(new int[scheduler.Next().LogitRows.Length]);

    private static PagedKeyValueCache<Half> NewCache(int blocks, int blockSize) => new(new() { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = 1, KeyDim = 1 });

    private static int[] Prompt(int tokens)
    {
        var random = new Random(tokens);
        int[] prompt = new int[tokens];
        foreach (ref int token in prompt.AsSpan()) token = random.Next(50_000);
        return prompt;
    }
}
