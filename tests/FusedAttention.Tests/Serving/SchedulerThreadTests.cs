using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>Requests come from, and are cancelled by, other threads than the one that runs the steps.</summary>
public sealed class SchedulerThreadTests
{
    [Fact]
    public async Task Requests_may_come_and_go_from_any_thread()
    {
        const int Producers = 3, Each = 150;
        using var model = new CountingModel(blocks: 30, blockSize: 4, new() { MaxTokensPerStep = 32 });
        var requests = new GenerationRequest[Producers * Each];
        Task[] producers = [.. Enumerable.Range(0, Producers).Select(producer => Task.Run(() =>
        {
            for (int i = 0; i < Each; i++)
            {
                int at = (producer * Each) + i;
                requests[at] = model.Scheduler.Add([producer, i % 5, at % 7], 1 + (at % 13));
                if (i % 10 == 9) model.Scheduler.Cancel(requests[at - 4]);
                if (i % 3 == 0) Thread.Yield();
            }
        }))];
        Task all = Task.WhenAll(producers);
        while (!all.IsCompleted || model.Scheduler.HasWork)
        {
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            model.Step();
        }

        await all;
        model.AssertNothingLeaked();
        Assert.Equal(requests.Length, requests.Select(static request => request.Id).Distinct().Count());
        foreach (GenerationRequest request in requests)
        {
            Assert.True(request.HasEnded);
            int expected = request.State == GenerationState.Finished ? request.MaxNewTokens : request.GeneratedTokens.Length;
            Assert.Equal(CountingModel.Continue(request.Tokens[..3], expected), request.GeneratedTokens.ToArray());
        }
    }
}
