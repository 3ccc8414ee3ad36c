using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Tests.Serving;

/// <summary>The model's weights change while requests run: what the old ones have computed is never found again.</summary>
public sealed class ForgottenPrefixTests : IDisposable
{
    private const int BlockSize = 4, Layers = 2;

    private readonly PagedKeyValueCache<float> _cache = new(new() { Blocks = 40, BlockSize = BlockSize, KeyValueHeads = 1, KeyDim = 1, Layers = Layers });
    private int _weights = 1;

    /// <summary>Where in a step they are forgotten.</summary>
    public enum Moment
    {
        BetweenSteps,
        Planned,
        BetweenLayers,
        Written,
    }

    public void Dispose() => _cache.Dispose();

    [Theory]
    [InlineData(Moment.BetweenSteps, 512)]
    [InlineData(Moment.Planned, 512)]
    [InlineData(Moment.BetweenLayers, 512)]
    [InlineData(Moment.Written, 512)]
    [InlineData(Moment.BetweenSteps, 7)]
    [InlineData(Moment.Planned, 7)]
    [InlineData(Moment.BetweenLayers, 7)]
    [InlineData(Moment.Written, 7)]
    public void Old_keys_are_never_found_and_new_ones_are(Moment moment, int tokensPerStep)
    {
        using BatchScheduler scheduler = BatchScheduler.Create(_cache, new() { MaxTokensPerStep = tokensPerStep });
        int[] prompt = [.. Enumerable.Range(0, 30)];
        for (int at = 0; at < 12; at++)
        {
            GenerationRequest running = scheduler.Add(prompt, 24);
            for (int step = 0; step < 20; step++) Step(scheduler, step == at ? moment : null);
            scheduler.Cancel(running);
            AssertFound(prompt, new(0, prompt.Length));

            // Somebody computes it with the new weights, and the next one finds that.
            GenerationRequest anew = scheduler.Add(prompt, 2), next = scheduler.Add(prompt, 2);
            while (scheduler.HasWork) Step(scheduler, null);
            AssertFound(prompt, new(28, 28));
            Assert.Equal(29, Math.Max(anew.SharedTokens, next.SharedTokens));
            _cache.ForgetPrefixes();
            _weights++;
        }
    }

    /// <summary>A request that is put back computes its tokens again, and those may be published.</summary>
    [Fact]
    public void What_is_computed_again_after_a_preemption_is_new()
    {
        using BatchScheduler scheduler = BatchScheduler.Create(_cache, new() { MaxRunningRequests = 4 });
        int[] prompt = [.. Enumerable.Range(0, 30)];
        GenerationRequest first = scheduler.Add([1, 1, 1], 100), second = scheduler.Add(prompt, 100);
        Step(scheduler, Moment.BetweenSteps);
        while (second.Preemptions == 0 && !second.HasEnded) Step(scheduler, null);
        Assert.True(second.Preemptions > 0, "The pool was never full.");
        while (scheduler.HasWork) Step(scheduler, null);
        AssertFound(prompt, new(28, 28));
        Assert.True(first.HasEnded);
    }

    private void Step(BatchScheduler scheduler, Moment? forget)
    {
        Forget(Moment.BetweenSteps);
        if (!scheduler.TryNext(out BatchStep? step)) return;
        Forget(Moment.Planned);
        for (int layer = 0; layer < Layers; layer++)
        {
            float[] rows = new float[step.Tokens.Length];
            Array.Fill(rows, _weights);
            _cache.Write(layer, step.Batch, rows, rows);
            if (layer == 0) Forget(Moment.BetweenLayers);
        }

        Forget(Moment.Written);
        scheduler.Complete(new int[step.LogitRows.Length]);

        void Forget(Moment moment)
        {
            if (forget != moment) return;
            _cache.ForgetPrefixes();
            _weights++;
        }
    }

    /// <summary>So many tokens of a prompt are found, and the weights in use have computed all of them in all layers.</summary>
    private void AssertFound(int[] prompt, Range count)
    {
        CacheSequence found = _cache.CreateSequence(prompt, out int tokens);
        Assert.InRange(tokens, count.Start.Value, count.End.Value);
        int[] table = new int[16];
        _cache.CopyBlockTable(found, table);
        for (int layer = 0; layer < Layers; layer++)
            for (int i = 0; i < tokens; i++) Assert.Equal(_weights, _cache.GetKeys(layer)[table[i / BlockSize], i % BlockSize, 0, 0]);
        _cache.Free(found);
    }
}
