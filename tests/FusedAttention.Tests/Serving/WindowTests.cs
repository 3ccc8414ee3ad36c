using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>A model that sees only so many tokens back: blocks come back while requests run, and a prefix needs no more than what is seen.</summary>
public sealed class WindowTests
{
    [Theory]
    [InlineData(1, 1)]
    [InlineData(4, 1)]
    [InlineData(4, 3)]
    [InlineData(4, 4)]
    [InlineData(8, 20)]
    public void Texts_are_right_and_blocks_come_back(int blockSize, int window)
    {
        int blocks = ((window + 16 + blockSize - 1) / blockSize) + 1;
        using var model = new CountingModel(blocks, blockSize, new() { Window = window, MaxTokensPerStep = 16 });
        GenerationRequest request = model.Scheduler.Add(Prompt(100), 60);       // longer than the pool
        while (model.Step())
        {
            if (!request.HasEnded && request.Uncomputed <= 1) Assert.InRange(model.Cache.UsedBlocks, 0, ((window + blockSize - 2) / blockSize) + 2);
        }

        Assert.Equal(CountingModel.Continue(Prompt(100), 60, window: window), request.GeneratedTokens.ToArray());
        Assert.Equal(0, model.Scheduler.Preemptions);

        // Who sees nothing but its own token needs nothing that came before it.
        Assert.Equal(window == 1 ? 159 - (99 / blockSize * blockSize) : 159, model.Scheduler.ComputedTokens);
        model.AssertNothingLeaked();
    }

    [Fact]
    public void A_pool_that_cannot_hold_window_and_step_holds_what_fits_as_a_whole()
    {
        using var model = new CountingModel(blocks: 8, blockSize: 4, new() { Window = 20, MaxTokensPerStep = 16 });
        Assert.Equal(RequestRefusal.TooLong, model.Scheduler.TryAdd(Prompt(40), new(), out _));
        GenerationRequest request = model.Scheduler.Add(Prompt(30), 3);
        model.RunToEnd();
        Assert.Equal(CountingModel.Continue(Prompt(30), 3, window: 20), request.GeneratedTokens.ToArray());
    }

    [Fact]
    public void A_prefix_is_found_though_what_the_window_has_passed_is_gone()
    {
        const int Window = 8;
        using var model = new CountingModel(blocks: 10, blockSize: 4, new() { Window = Window, MaxTokensPerStep = 16 });
        int[] prompt = Prompt(60);
        GenerationRequest first = model.Scheduler.Add(prompt, 1);
        model.RunToEnd();
        Assert.Equal(10, model.Cache.KeptBlocks);       // the first blocks had to make room
        model.Cache.Free(model.Cache.CreateSequence(prompt, out int whole));
        Assert.Equal(0, whole);
        CacheSequence found = model.Cache.CreateSequence(prompt, out int tokens, window: Window);
        Assert.Equal((60, 52), (tokens, model.Cache.GetFirstPosition(found)));
        Assert.Equal(2, model.Cache.UsedBlocks);
        model.Cache.Free(found);

        GenerationRequest next = model.Scheduler.Add([.. prompt, 3, 1], 5);
        model.RunToEnd();
        Assert.Equal(60, next.SharedTokens);
        Assert.Equal(CountingModel.Continue([.. prompt, 3, 1], 5, window: Window), next.GeneratedTokens.ToArray());
        GenerationRequest other = model.Scheduler.Add([4, .. prompt[1..], 3, 1], 5);
        model.RunToEnd();
        Assert.Equal(0, other.SharedTokens);            // the same window behind another beginning: another prefix
        Assert.True(first.HasEnded);
        model.AssertNothingLeaked();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Requests_with_a_window_share_a_small_pool(int seed)
    {
        const int Window = 7;
        using var model = new CountingModel(blocks: 24, blockSize: 4, new() { Window = Window, MaxTokensPerStep = 12 });
        var random = new Random(seed);
        List<GenerationRequest> requests = [];
        for (int step = 0; step < 1500; step++)
        {
            if (random.Next(6) == 0) requests.Add(model.Scheduler.Add([.. Prompt(random.Next(4) * 9), .. Enumerable.Range(0, random.Next(1, 30)).Select(_ => random.Next(5))], random.Next(1, 60)));
            foreach (GenerationRequest request in requests.Where(static request => request.State == GenerationState.Running && !request.GeneratedTokens.IsEmpty))
                if (random.Next(4) == 0) model.Scheduler.Propose(request, [CountingModel.Next(request.Tokens, Window), random.Next(5), 1]);
            BatchStep planned = model.Scheduler.Next();
            if (planned.IsEmpty) continue;
            int[] sampled = model.Run(planned);
            if (random.Next(30) == 0) model.Scheduler.Abandon();
            else model.Scheduler.Complete(sampled);
        }

        model.RunToEnd();
        foreach (GenerationRequest request in requests)
            Assert.Equal(CountingModel.Continue(request.Tokens[..request.PromptLength], request.MaxNewTokens, window: Window), request.GeneratedTokens.ToArray());
        Assert.True(model.Scheduler.SharedTokens > 200, $"{model.Scheduler.SharedTokens} tokens shared");
        Assert.True(model.Scheduler.AcceptedDraftTokens > 200, $"{model.Scheduler.AcceptedDraftTokens} drafts accepted");
        model.AssertNothingLeaked();
    }

    private static int[] Prompt(int length) => [.. Enumerable.Range(0, length).Select(static i => i * i % 5)];
}
