using System.Diagnostics;
using System.Numerics.Tensors;
using System.Text;
using FusedAttention.Samples.TextGeneration.Loading;
using FusedAttention.Samples.TextGeneration.Model;
using FusedAttention.Serving;

namespace FusedAttention.Samples.TextGeneration.Commands;

/// <summary>Continues one prompt and writes the text as it comes: as many tokens as asked for, but where a greedy text is longer than the model was trained on, no further than the loop that it ends in.</summary>
internal static class GenerateCommand
{
    private const int BlockSize = 16;

    public static void Run<T>(LoadedModel loaded, LanguageModel model, string prompt, int tokens, Sampler sampler, TextWriter text, TextWriter notes, CancellationToken cancellation)
        where T : unmanaged
    {
        int[] promptTokens = loaded.Tokenizer.Encode(Encoding.UTF8.GetBytes(prompt));
        int blocks = (promptTokens.Length + tokens + BlockSize - 1) / BlockSize;
        WarmUp<T>(model, promptTokens, blocks);
        using var engine = new Engine<T>(model, blocks, BlockSize);
        var writer = new TokenWriter(loaded.Tokenizer, text);
        foreach (int token in promptTokens) writer.Write(token);

        ReadOnlySpan<int> stop = loaded.Tokenizer.EndToken is int end ? [end] : [];
        GenerationRequest request = engine.Add(promptTokens, tokens, (_, logits) => writer.Write(sampler.Choose(logits)), stop);

        // With the first token the prompt is done; every later step runs one token.
        long start = Stopwatch.GetTimestamp();
        while (request.GeneratedTokens.IsEmpty && engine.Step()) cancellation.ThrowIfCancellationRequested();
        TimeSpan prefill = Stopwatch.GetElapsedTime(start);
        start = Stopwatch.GetTimestamp();
        Repetition? endless = null;
        while (endless is null && engine.Step())
        {
            cancellation.ThrowIfCancellationRequested();
            if (sampler.IsGreedy && promptTokens.Length + request.GeneratedTokens.Length > model.Config.TrainedContext) endless = Repetition.Of(request.GeneratedTokens);
        }

        TimeSpan decode = Stopwatch.GetElapsedTime(start);
        text.WriteLine();
        text.Flush();
        int decoded = request.GeneratedTokens.Length - 1;
        notes.WriteLine();
        notes.WriteLine($"model    {loaded.Name}, {loaded.Weights.Parameters:N0} parameters");
        notes.WriteLine($"prefill  {promptTokens.Length} tokens, {promptTokens.Length / prefill.TotalSeconds:0} tokens/s");
        notes.WriteLine($"device   {model.DeviceName}");
        if (decoded > 0) notes.WriteLine($"decode   {decoded} tokens, {decoded / decode.TotalSeconds:0} tokens/s");
        int length = promptTokens.Length + request.GeneratedTokens.Length;
        if (length > model.Config.TrainedContext) notes.WriteLine($"context  {length} tokens; the model was trained on {model.Config.TrainedContext}{(endless is null ? "" : $", so {tokens - request.GeneratedTokens.Length} of the same were left out")}");
        if (Repetition.Of(request.GeneratedTokens) is { } repetition) notes.WriteLine($"text     {repetition}; --temperature 0.8 takes other tokens than the likeliest now and then");
        notes.WriteLine($"cache    {engine.PeakBlocks} of {blocks} blocks of {BlockSize} tokens, {engine.Cache.Bytes / 1024:N0} KiB of {CacheTypes.NameOf<T>()} in {model.Config.Layers} layers");
    }

    /// <summary>Runs the prompt once and forgets it, so that the figures do not count the compilation of the code.</summary>
    private static void WarmUp<T>(LanguageModel model, int[] prompt, int blocks)
        where T : unmanaged
    {
        using var engine = new Engine<T>(model, blocks, BlockSize);
        engine.Add(prompt, Math.Min(3, (blocks * BlockSize) - prompt.Length), static (_, logits) => TensorPrimitives.IndexOfMax(logits));
        engine.RunToEnd();
    }
}
