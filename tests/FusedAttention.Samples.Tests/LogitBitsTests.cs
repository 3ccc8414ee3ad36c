using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Samples.Tests;

/// <summary>A request's logits do not depend on its company, the blocks or the threads; of a row-invariant model, not on chunks and preemptions either.</summary>
[Slow]
public sealed class LogitBitsTests(ITestOutputHelper output)
{
    /// <summary>Takes all prompts in one step, so that each is prefilled whole, as it is alone.</summary>
    private static readonly BatchSchedulerOptions AllAtOnce = new() { MaxTokensPerStep = 4000, SharePrefixes = false };

    [Fact]
    public void Alone_and_among_64_with_any_block_size_and_threads()
    {
        int[][] prompts = RecordedLogits.Prompts();
        float[][][] alone = RecordedLogits.Alone<float>(prompts, rowInvariant: false);
        foreach (int threads in (int[])[1, 2])
        {
            var model = new LanguageModel(Models.Bible.Weights, threads);
            foreach ((int blockSize, int blocks) in ((int, int)[])[(1, 5000), (16, 400), (256, 64)])
            {
                (float[][][] logits, BatchScheduler scheduler) = RecordedLogits.Serve<float>(model, prompts, blocks, blockSize, AllAtOnce);
                Assert.Equal(0, scheduler.Preemptions);
                RecordedLogits.AssertSameBits(alone, logits, $"blocks of {blockSize}, {threads} threads");
            }
        }
    }

    [Fact]
    public void Alone_and_among_64_with_a_half_cache()
    {
        int[][] prompts = RecordedLogits.Prompts();
        float[][][] alone = RecordedLogits.Alone<Half>(prompts, rowInvariant: false);
        (float[][][] logits, _) = RecordedLogits.Serve<Half>(new LanguageModel(Models.Bible.Weights, threads: 2), prompts, 400, 16, AllAtOnce);
        RecordedLogits.AssertSameBits(alone, logits, "half cache");
    }

    [Fact]
    public void Row_invariant_with_any_chunks_shared_prefixes_and_preemptions()
    {
        int[][] prompts = RecordedLogits.Prompts();
        float[][][] alone = RecordedLogits.Alone<float>(prompts, rowInvariant: true);
        (int BlockSize, int Blocks, int TokensPerStep, int Threads, bool Share)[] cases =
            [(1, 150, 5, 2, true), (16, 8, 21, 2, true), (16, 40, 300, 1, true), (256, 5, 64, 2, true), (2, 40, 40, 1, true), (2, 40, 40, 2, false)];
        long preemptions = 0, shared = 0;
        foreach ((int blockSize, int blocks, int tokensPerStep, int threads, bool share) in cases)
        {
            var model = new LanguageModel(Models.Bible.Weights, threads, rowInvariant: true);
            (float[][][] logits, BatchScheduler scheduler) = RecordedLogits.Serve<float>(model, prompts, blocks, blockSize, new() { MaxTokensPerStep = tokensPerStep, SharePrefixes = share });
            RecordedLogits.AssertSameBits(alone, logits, $"blocks of {blockSize}, {tokensPerStep} tokens a step, {threads} threads");
            preemptions += scheduler.Preemptions;
            shared += scheduler.SharedTokens;
        }

        output.WriteLine($"{preemptions} preemptions, {shared} shared tokens");
        Assert.True(preemptions > 10 && shared > 100, $"{preemptions} preemptions, {shared} shared tokens: this run proves nothing about them.");
    }

    [Fact]
    public void Not_row_invariant_with_chunks_shared_prefixes_and_preemptions_the_logits_stay_close()
    {
        int[][] prompts = RecordedLogits.Prompts();
        float[][][] alone = RecordedLogits.Alone<float>(prompts, rowInvariant: true);
        var model = new LanguageModel(Models.Bible.Weights);
        (float[][][] logits, BatchScheduler scheduler) = RecordedLogits.Serve<float>(model, prompts, 40, 2, new() { MaxTokensPerStep = 40 });
        Assert.True(scheduler.Preemptions > 0);
        for (int i = 0; i < prompts.Length; i++)
        {
            Assert.Equal(alone[i].Length, logits[i].Length);
            for (int step = 0; step < alone[i].Length; step++) Assert.True(RecordedLogits.LargestDifference(alone[i][step], logits[i][step]) <= 1e-3, $"request {i}, token {step}");
        }
    }

    [Fact]
    public void Every_chunk_size_gives_the_same_bits_if_row_invariant_and_nearly_the_same_if_not()
    {
        int[] tokens = Models.Bible.Tokenizer.Encode(File.ReadAllBytes(Models.BibleFile("heldout.txt")))[..150];
        var plain = new LanguageModel(Models.Bible.Weights);
        var invariant = new LanguageModel(Models.Bible.Weights, rowInvariant: true);
        float[] whole = Prefill(invariant, tokens, tokens.Length);
        double worst = 0;
        foreach (int chunk in (int[])[1, 2, 3, 4, 7, 16, 33, 64, 149, 150])
        {
            CallResult.AssertSameBits(whole, Prefill(invariant, tokens, chunk), $"chunks of {chunk}");
            worst = Math.Max(worst, RecordedLogits.LargestDifference(whole, Prefill(plain, tokens, chunk)));
        }

        output.WriteLine($"without RowInvariant: {worst:E2} at most");
        Assert.True(worst <= 1e-3, $"Without RowInvariant a logit differs by {worst}.");
    }

    /// <summary>All logits of a text that is run in chunks.</summary>
    private static float[] Prefill(LanguageModel model, int[] tokens, int chunk)
    {
        using KeyValueCache cache = model.CreateCache<float>(100, 16);
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        var logits = new List<float>();
        for (int done = 0; done < tokens.Length; done += chunk)
        {
            int count = Math.Min(chunk, tokens.Length - done);
            cache.Extend(sequence, count);
            batch.Clear();
            batch.Add(sequence, count);
            logits.AddRange(model.Forward(cache, batch, tokens.AsSpan(done, count), [.. Enumerable.Range(0, count)]));
        }

        return [.. logits];
    }
}
