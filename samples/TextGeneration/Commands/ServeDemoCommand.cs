using System.Diagnostics;
using FusedAttention.Samples.TextGeneration.Loading;
using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Serving;

namespace FusedAttention.Samples.TextGeneration.Commands;

/// <summary>
/// Requests of different lengths, arriving a few at a time, out of one pool that holds a fraction of them; then the same requests one by one. The model is row-invariant, so
/// the texts must be equal.
/// </summary>
internal static class ServeDemoCommand
{
    private const int BlockSize = 16;
    private const string Instruction = "And it came to pass in those days, that all the people of the land were gathered together as one man, and they said, ";

    private static readonly string[] Openings =
    [
        "In the beginning", "The LORD is my", "And the king said unto", "Blessed are", "Now these are the generations of the sons of", "Hear, O Israel", "And Moses", "Let there be",
    ];

    public static void Run<T>(LoadedModel loaded, LanguageModel model, int requests, TextWriter output, CancellationToken cancellation)
        where T : unmanaged
    {
        (int[] Prompt, int NewTokens)[] work = [.. Enumerable.Range(0, requests).Select(i => Request(loaded, i))];
        int whole = work.Sum(static request => Blocks(request.Prompt.Length + request.NewTokens));
        int pool = Math.Max(whole / 6, work.Max(static request => Blocks(request.Prompt.Length + request.NewTokens)));
        output.WriteLine($"{requests} requests, {work.Sum(r => r.Prompt.Length)} prompt tokens, {work.Sum(r => r.NewTokens)} new tokens; the pool has {pool} blocks of {BlockSize}, all requests together would need {whole}; a cache of {CacheTypes.NameOf<T>()}, attention on {model.DeviceName}");

        // Compiles everything before the clock runs.
        Serve<T>(model, pool, work.AsSpan(0, Math.Min(8, requests)), together: true, TextWriter.Null, cancellation);
        string[] together = Serve<T>(model, pool, work, together: true, output, cancellation);
        string[] oneByOne = Serve<T>(model, pool, work, together: false, output, cancellation);
        int different = together.Zip(oneByOne).Count(static texts => !texts.First.Equals(texts.Second, StringComparison.Ordinal));
        output.WriteLine(different == 0 ? $"all {requests} texts are equal" : $"{different} texts differ, which they must not");
    }

    private static string[] Serve<T>(LanguageModel model, int pool, ReadOnlySpan<(int[] Prompt, int NewTokens)> work, bool together, TextWriter output, CancellationToken cancellation)
        where T : unmanaged
    {
        var options = new BatchSchedulerOptions { MaxTokensPerStep = 256, MaxRunningRequests = together ? 64 : 1 };
        using var engine = new Engine<T>(model, pool, BlockSize, options);
        var requests = new GenerationRequest[work.Length];
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < work.Length; i++)
        {
            Sampler sampler = Sampler.Greedy();
            requests[i] = engine.Add(work[i].Prompt, work[i].NewTokens, (_, logits) => sampler.Choose(logits));
            if (i % 8 == 7) engine.Step();
        }

        engine.RunToEnd(cancellation);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        BatchScheduler scheduler = engine.Scheduler;
        long generated = requests.Sum(static request => (long)request.GeneratedTokens.Length);
        output.WriteLine(
            $"{(together ? "together" : "one by one"),-10}  {generated / seconds,5:0} new tokens/s, {seconds:0.00} s, {engine.Steps} steps, up to {engine.PeakRequests} at a time, " +
            $"{scheduler.ComputedTokens} tokens computed, {scheduler.SharedTokens} shared, {scheduler.Preemptions} preemptions, {engine.PeakBlocks} blocks at most");
        return [.. requests.Select(static request => string.Join(' ', request.GeneratedTokens.ToArray()))];
    }

    /// <summary>Every other request starts with the same instruction, as requests to one assistant do.</summary>
    private static (int[] Prompt, int NewTokens) Request(LoadedModel loaded, int index)
    {
        string text = (index % 2 == 0 ? Instruction : "") + Openings[index % Openings.Length] + $" ({index}) ";
        return (loaded.Tokenizer.Encode(System.Text.Encoding.UTF8.GetBytes(text)), 24 + (index * 37 % 96));
    }

    private static int Blocks(int tokens) => (tokens + BlockSize - 1) / BlockSize;
}
