using FusedAttention.Samples.TextGeneration;
using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Serving;
using Xunit;

namespace FusedAttention.Samples.Tests;

/// <summary>64 requests and the logits that a model gives them in different company.</summary>
internal static class RecordedLogits
{
    public const int Requests = 64;

    /// <summary>Pieces of the held-out text of 3 to 40 bytes; every fourth starts with the same 24 bytes.</summary>
    public static int[][] Prompts()
    {
        int[] text = Models.Bible.Tokenizer.Encode(File.ReadAllBytes(Models.BibleFile("heldout.txt")));
        return [.. Enumerable.Range(0, Requests).Select(i =>
        {
            int[] own = text.AsSpan(i * 50, 3 + (i * 29 % 38)).ToArray();
            return i % 4 == 0 ? (int[])[.. text.AsSpan(0, 24), .. own] : own;
        })];
    }

    /// <summary>Few, so that the tests are short; more for some, so that requests outgrow the blocks they were admitted with.</summary>
    public static int NewTokens(int[] prompt) => prompt.Length % 3 == 0 ? 16 : 3;

    /// <summary>Each request alone, its whole prompt at once, on one thread.</summary>
    public static float[][][] Alone<T>(int[][] prompts, bool rowInvariant)
        where T : unmanaged
    {
        var model = new LanguageModel(Models.Bible.Weights, threads: 1, rowInvariant);
        return [.. prompts.Select(prompt => Serve<T>(model, [prompt], blocks: 8, blockSize: 16, new() { SharePrefixes = false }).Logits[0])];
    }

    /// <summary>All of them through one scheduler.</summary>
    public static (float[][][] Logits, BatchScheduler Scheduler) Serve<T>(LanguageModel model, int[][] prompts, int blocks, int blockSize, BatchSchedulerOptions options)
        where T : unmanaged
    {
        using var engine = new Engine<T>(model, blocks, blockSize, options);
        var logits = new List<float[]>[prompts.Length];
        var sampler = Sampler.Greedy();
        for (int i = 0; i < prompts.Length; i++)
        {
            List<float[]> own = logits[i] = [];
            engine.Add(prompts[i], NewTokens(prompts[i]), (_, row) =>
            {
                own.Add(row.ToArray());
                return sampler.Choose(row);
            });
        }

        engine.RunToEnd(TestContext.Current.CancellationToken);
        Assert.Equal((0, 0), (engine.Cache.UsedBlocks, engine.Cache.SequenceCount));
        return ([.. logits.Select(static own => own.ToArray())], engine.Scheduler);
    }

    public static void AssertSameBits(float[][][] expected, float[][][] actual, string what)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            Assert.Equal(expected[i].Length, actual[i].Length);
            for (int step = 0; step < expected[i].Length; step++) CallResult.AssertSameBits(expected[i][step], actual[i][step], $"{what}: request {i}, token {step}");
        }
    }

    public static double LargestDifference(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double largest = 0;
        for (int i = 0; i < a.Length; i++) largest = Math.Max(largest, Math.Abs((double)a[i] - b[i]));
        return largest;
    }
}
