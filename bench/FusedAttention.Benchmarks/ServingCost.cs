using System.Diagnostics;
using FusedAttention.Serving;

namespace FusedAttention.Benchmarks;

/// <summary>
/// What scheduling a step costs, beside the model, against all that it should not depend on: the context, the queue, and what has been. No model runs; a step is planned and completed.
/// The best of many short trials, so that other programs on the machine count little.
/// </summary>
internal static class ServingCost
{
    private const int BlockSize = 16;

    private enum Blocked
    {
        Never,
        ByPlaces,
        ByBlocks,
    }

    public static void Print(TextWriter output)
    {
        // The code is compiled better as it runs: nothing counts before that.
        for (int i = 0; i < 20; i++) Decode(256, Blocked.Never, 0);
        output.WriteLine("| one request decodes, context | blocks of 16, us a step | blocks of 1, us a step |");
        output.WriteLine("|--:|--:|--:|");
        foreach (int context in (int[])[1000, 10_000, 100_000, 1_000_000]) output.WriteLine($"| {context:N0} | {Context(context, 16):0.0} | {Context(context, 1):0.0} |");

        output.WriteLine("\n| requests that decode | us a step | us a request |");
        output.WriteLine("|--:|--:|--:|");
        foreach (int running in (int[])[1, 16, 64, 256, 1024])
        {
            double time = Decode(running, Blocked.Never, 0);
            output.WriteLine($"| {running:N0} | {time:0.0} | {time / running:0.00} |");
        }

        output.WriteLine("\n| 64 decode, others wait | for a place, us a step | for blocks, us a step | for a prefix that one of the 64 computes, us a step |");
        output.WriteLine("|--:|--:|--:|--:|");
        foreach (int queued in (int[])[0, 100, 1000, 10_000])
            output.WriteLine($"| {queued:N0} | {Decode(64, Blocked.ByPlaces, queued):0.0} | {Decode(64, Blocked.ByBlocks, queued):0.0} | {Followers(queued):0.0} |");

        output.WriteLine("\n| 256 decode | us a step |");
        output.WriteLine("|---|--:|");
        output.WriteLine($"| at first | {History(0, 0):0} |");
        output.WriteLine($"| after a request of 1,000,000 tokens | {History(1, 1_000_000):0} |");
        output.WriteLine($"| after 100,000 requests of 20 tokens | {History(100_000, 20):0} |");

        output.WriteLine("\n| at once | ms |");
        output.WriteLine("|---|--:|");
        foreach (int requests in (int[])[512, 2048]) output.WriteLine($"| {requests:N0} requests with 8,000 common tokens are admitted | {Best(5, () => Admit(requests)):0.0} |");
        foreach (int requests in (int[])[5000, 40_000]) output.WriteLine($"| {requests:N0} waiting requests are cancelled, youngest first | {Best(5, () => Cancel(requests)):0.0} |");
    }

    private static double Context(int context, int blockSize)
    {
        using var cache = NewCache((context + 2000) / blockSize, blockSize);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 8192 });
        scheduler.Add(Prompt(1, context), 1900);
        while (scheduler.WaitingCount > 0 || cache.UsedBlocks < context / blockSize) Step(scheduler);
        return TimeOfStep(scheduler, 1200);
    }

    private static double Decode(int running, Blocked blocked, int queued)
    {
        using var cache = NewCache(running * 40, BlockSize);
        int places = blocked == Blocked.ByPlaces ? running : running + 1;
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = Math.Max(4096, running), MaxRunningRequests = places });
        for (int i = 0; i < running; i++) scheduler.Add(Prompt(i, 100), 500);
        while (scheduler.WaitingCount > 0) Step(scheduler);

        // What waits for blocks finds too few beside those that the others may want: somebody else holds the rest.
        if (blocked == Blocked.ByBlocks) cache.Extend(cache.CreateSequence(), (cache.FreeBlocks - (running * 6)) * BlockSize);
        int[] waiting = Prompt(-1, blocked == Blocked.ByBlocks ? running * 6 * BlockSize : 20);
        for (int i = 0; i < queued; i++) scheduler.Add(waiting, 10);
        return TimeOfStep(scheduler, 60);
    }

    /// <summary>The prompt of one request takes long, and all that wait begin like it.</summary>
    private static double Followers(int queued)
    {
        using var cache = NewCache(20_000, BlockSize);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 128, MaxRunningRequests = 65 });
        for (int i = 0; i < 63; i++) scheduler.Add(Prompt(i, 20), 1000);
        while (scheduler.WaitingCount > 0) Step(scheduler);
        int[] common = Prompt(-1, 100_000);
        scheduler.Add(common, 1);
        Step(scheduler);
        for (int i = 0; i < queued; i++) scheduler.Add(common.AsSpan(0, 3000), 1);
        Step(scheduler);
        return TimeOfStep(scheduler, 30);
    }

    private static double History(int requests, int length)
    {
        using var cache = NewCache(75_000, BlockSize);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 1 << 16 });
        for (int i = 0; i < requests; i++)
        {
            scheduler.Add(Prompt(i, length), 1);
            if (scheduler.WaitingCount >= 256) Step(scheduler);
        }

        while (scheduler.HasWork) Step(scheduler);
        for (int i = 0; i < 256; i++) scheduler.Add(Prompt(-i - 1, 100), 400);
        for (int i = 0; i < 10; i++) Step(scheduler);
        return TimeOfStep(scheduler, 300);
    }

    private static double Admit(int requests)
    {
        using var cache = NewCache(20_000, BlockSize);
        using BatchScheduler scheduler = BatchScheduler.Create(cache, new() { MaxTokensPerStep = 65_536, MaxRunningRequests = requests });
        int[] common = Prompt(0, 8000);
        for (int i = 0; i < requests; i++) scheduler.Add([.. common, .. Prompt(i, 20)], 50);
        Step(scheduler);
        long start = Stopwatch.GetTimestamp();
        Step(scheduler);
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    private static double Cancel(int requests)
    {
        using var cache = NewCache(100, BlockSize);
        using BatchScheduler scheduler = BatchScheduler.Create(cache);
        GenerationRequest[] all = [.. Enumerable.Range(0, requests).Select(_ => scheduler.Add([1, 2, 3], 3))];
        long start = Stopwatch.GetTimestamp();
        for (int i = requests - 1; i >= 0; i--) scheduler.Cancel(all[i]);
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    /// <summary>Microseconds a step, the best of trials of 10.</summary>
    private static double TimeOfStep(BatchScheduler scheduler, int steps) => Best(steps / 10, () =>
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < 10; i++) Step(scheduler);
        return Stopwatch.GetElapsedTime(start).TotalMicroseconds / 10;
    });

    private static double Best(int trials, Func<double> trial)
    {
        double best = double.PositiveInfinity;
        for (int i = 0; i < trials; i++) best = Math.Min(best, trial());
        return best;
    }

    private static void Step(BatchScheduler scheduler) => scheduler.Complete(new int[scheduler.Next().LogitRows.Length]);

    private static PagedKeyValueCache<Half> NewCache(int blocks, int blockSize) => new(new() { Blocks = blocks, BlockSize = blockSize, KeyValueHeads = 1, KeyDim = 1 });

    private static int[] Prompt(int seed, int tokens)
    {
#pragma warning disable CA5394 // Nothing here is a secret.
        var random = new Random(seed);
        int[] prompt = new int[tokens];
        foreach (ref int token in prompt.AsSpan()) token = random.Next(50_000);
        return prompt;
#pragma warning restore CA5394
    }
}
