using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>A server's loop: nothing is polled, no wake-up is lost, and a cancellation may fall anywhere.</summary>
public sealed class WaitForWorkTests
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(30);

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_returns_at_once_if_there_is_a_request_and_waits_for_one_otherwise()
    {
        using var model = new CountingModel(blocks: 8, blockSize: 4);
        Task<bool> first = model.Scheduler.WaitForWorkAsync(Stop), second = model.Scheduler.WaitForWorkAsync(Stop);
        await Task.Delay(20, Stop);
        Assert.False(first.IsCompleted || second.IsCompleted);
        model.Scheduler.Add([1, 2], 2);
        Assert.True(await first.WaitAsync(Long, Stop) && await second.WaitAsync(Long, Stop));
        Assert.True(model.Scheduler.WaitForWorkAsync(Stop).IsCompleted);
        model.RunToEnd();
        Assert.False(model.Scheduler.WaitForWorkAsync(Stop).IsCompleted);
    }

    [Fact]
    public async Task It_can_be_given_up_and_ends_with_the_scheduler()
    {
        var model = new CountingModel(blocks: 8, blockSize: 4);
        using var source = new CancellationTokenSource();
        Task<bool> given = model.Scheduler.WaitForWorkAsync(source.Token), kept = model.Scheduler.WaitForWorkAsync(Stop);
        await source.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => given);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => model.Scheduler.WaitForWorkAsync(source.Token));
        Assert.False(kept.IsCompleted);
        model.Dispose();
        Assert.False(await kept.WaitAsync(Long, Stop));
        Assert.False(await model.Scheduler.WaitForWorkAsync(Stop));
    }

    [Theory]
    [InlineData("free")]
    [InlineData("truncate")]
    [InlineData("drop")]
    [InlineData("cancel")]
    [InlineData("add")]
    [InlineData("dispose the cache")]
    public async Task While_others_hold_the_blocks_it_waits_for_a_change(string change)
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        CacheSequence other = model.Cache.CreateSequence();
        model.Cache.Extend(other, 14);
        GenerationRequest large = model.Scheduler.Add([1, 2, 3, 4, 5], 3);
        model.Scheduler.Add([1], 1);
        Assert.False(model.Scheduler.TryNext(out _));
        Task<bool> wait = model.Scheduler.WaitForWorkAsync(Stop);
        model.Cache.Free(model.Cache.CreateSequence());     // holds nothing, so that nothing comes back
        await Task.Delay(20, Stop);
        Assert.True(wait.IsCompleted, "A sequence was freed, so trying again is allowed.");
        Assert.False(model.Scheduler.TryNext(out _));
        wait = model.Scheduler.WaitForWorkAsync(Stop);
        await Task.Delay(20, Stop);
        Assert.False(wait.IsCompleted);
        switch (change)
        {
            case "free": model.Cache.Free(other); break;
            case "truncate": model.Cache.Truncate(other, 3); break;
            case "drop": model.Cache.DropBefore(other, 12); break;
            case "cancel": model.Scheduler.Cancel(large); break;
            case "add": model.Scheduler.Add([7], 1); break;
            default: model.Cache.Dispose(); break;
        }

        Assert.True(await wait.WaitAsync(Long, Stop));
        if (change is "free" or "truncate" or "drop") Assert.True(model.Step());
        if (change is "dispose the cache") Assert.Throws<ObjectDisposedException>(() => model.Scheduler.Next());
        if (change is "add") Assert.False(model.Step());
    }

    [Fact]
    public async Task What_happened_between_the_empty_step_and_the_wait_counts()
    {
        using var model = new CountingModel(blocks: 4, blockSize: 4);
        CacheSequence other = model.Cache.CreateSequence();
        model.Cache.Extend(other, 14);
        model.Scheduler.Add([1, 2, 3, 4, 5], 3);
        Assert.True(model.Scheduler.Next().IsEmpty);
        model.Cache.Free(other);
        Assert.True(await model.Scheduler.WaitForWorkAsync(Stop).WaitAsync(Long, Stop));
        model.RunToEnd();
    }

    /// <summary>The loop of docs/serving.md; a cancellation comes between any two calls of it.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_request_may_be_cancelled_at_any_point_of_the_loop(bool plainNext)
    {
        for (int at = 0; at < 12; at++)
        {
            using var model = new CountingModel(blocks: 8, blockSize: 4);
            GenerationRequest request = model.Scheduler.Add([1, 2, 3], 3);
            int point = 0;
            while (model.Scheduler.HasWork)
            {
                Cancel();
                if (plainNext)
                {
                    BatchStep step = model.Scheduler.Next();
                    Cancel();
                    int[] sampled = model.Run(step);
                    Cancel();
                    model.Scheduler.Complete(sampled);
                }
                else if (model.Scheduler.TryNext(out BatchStep? step))
                {
                    Cancel();
                    int[] sampled = model.Run(step);
                    Cancel();
                    model.Scheduler.Complete(sampled);
                }

                Cancel();
            }

            Assert.True(request.HasEnded);
            model.AssertNothingLeaked();

            void Cancel()
            {
                if (point++ == at) model.Scheduler.Cancel(request);
            }
        }
    }

    [Fact]
    public void An_empty_step_is_completed_or_abandoned_once_or_left()
    {
        using var model = new CountingModel(blocks: 8, blockSize: 4);
        BatchScheduler scheduler = model.Scheduler;
        Assert.True(scheduler.Next().IsEmpty);
        Assert.True(scheduler.Next().IsEmpty);
        Assert.Throws<ArgumentException>("sampledTokens", () => scheduler.Complete([1]));
        scheduler.Complete([]);
        Assert.Throws<InvalidOperationException>(() => scheduler.Complete([]));
        scheduler.Next();
        scheduler.Abandon();
        Assert.Throws<InvalidOperationException>(scheduler.Abandon);
        scheduler.Next();
        GenerationRequest request = scheduler.Add([1, 2], 2);
        model.RunToEnd();
        Assert.Equal(GenerationState.Finished, request.State);
    }

    /// <summary>Producers, cancellations and another user of the pool at random moments: the loop sleeps in between and misses nothing.</summary>
    [Fact]
    public async Task A_server_misses_nothing_and_does_not_spin()
    {
        using var model = new CountingModel(blocks: 12, blockSize: 4, new() { MaxTokensPerStep = 32 });
        var requests = new List<GenerationRequest>();
        int emptySteps = 0, wakes = 0;
        Task server = Task.Run(async () =>
        {
            while (await model.Scheduler.WaitForWorkAsync(Stop).ConfigureAwait(false))
            {
                wakes++;
                if (!model.Scheduler.TryNext(out BatchStep? step))
                {
                    emptySteps++;
                    continue;
                }

                model.Scheduler.Complete(model.Run(step));
            }
        }, Stop);

        int changes = 0;
        var random = new Random(3);
        for (int round = 0; round < 150; round++)
        {
            CacheSequence other = model.Cache.CreateSequence();
            bool holds = random.Next(2) == 0;
            if (holds)
            {
                try
                {
                    model.Cache.Extend(other, 45);
                }
                catch (OutOfBlocksException)
                {
                    holds = false;
                }
            }

            GenerationRequest request = model.Scheduler.Add([round % 5, 1, 2, 3, 4], random.Next(1, 6));
            requests.Add(request);
            if (random.Next(5) == 0) model.Scheduler.Cancel(request);
            if (random.Next(2) == 0) await Task.Delay(1, Stop);
            model.Cache.Free(other);
            changes += 4;
            long deadline = Environment.TickCount64 + 30_000;
            while (random.Next(3) > 0 && !request.HasEnded)
            {
                if (server.IsFaulted) await server;
                Assert.True(Environment.TickCount64 < deadline, "The server sleeps although there is work.");
                await Task.Yield();
            }
        }

        long end = Environment.TickCount64 + 30_000;
        while (model.Scheduler.HasWork)
        {
            if (server.IsFaulted) await server;
            Assert.True(Environment.TickCount64 < end, "The server sleeps although there is work.");
            await Task.Delay(1, Stop);
        }

        await Task.Delay(50, Stop);
        int before = Volatile.Read(ref wakes);
        await Task.Delay(50, Stop);
        Assert.Equal(before, Volatile.Read(ref wakes));
        Assert.True(emptySteps <= 2 * changes, $"{emptySteps} empty steps for {changes} changes");
        Assert.All(requests, static request => Assert.True(request.HasEnded));
        model.AssertNothingLeaked();
        model.Scheduler.Dispose();
        await server.WaitAsync(Long, Stop);
    }
}
