using System.Diagnostics;
using FusedAttention.Samples.TextGeneration.Loading;
using FusedAttention.Samples.TextGeneration.Model;

namespace FusedAttention.Samples.TextGeneration.Commands;

/// <summary>How well a model predicts a text: the mean of -ln p over what it could predict, in nats per byte.</summary>
internal static class ScoreCommand
{
    private const int ChunkSize = 512;
    private const int BlockSize = 16;

    public static void Run<T>(LoadedModel loaded, LanguageModel model, string path, TextWriter output, CancellationToken cancellation)
        where T : unmanaged
    {
        byte[] text = File.ReadAllBytes(path);
        int[] tokens = loaded.Tokenizer.Encode(text);
        if (tokens.Length < 2) throw new InvalidDataException($"{Path.GetFileName(path)} has {text.Length} bytes, which leave nothing to predict.");
        long start = Stopwatch.GetTimestamp();
        double[] losses = Losses<T>(model, tokens, cancellation);
        TimeSpan time = Stopwatch.GetElapsedTime(start);

        double[] bytes = new double[losses.Length];
        for (int i = 0; i < bytes.Length; i++) bytes[i] = loaded.Tokenizer.Decode(tokens[i], tokens[i + 1]).Length;
        output.WriteLine($"{losses.Sum() / bytes.Sum():0.000000} nats per byte over {bytes.Sum():0} bytes, {losses.Length / time.TotalSeconds:0} tokens/s");
        if (typeof(T) != typeof(float)) Compare<T>(losses, Losses<float>(model, tokens, cancellation), bytes.Sum(), output);
        if (losses.Length <= ChunkSize) return;
        output.WriteLine($"{losses.Take(ChunkSize).Sum() / bytes.Take(ChunkSize).Sum():0.000000} over the first {ChunkSize} predictions");
        output.WriteLine($"{losses.Skip(ChunkSize).Sum() / bytes.Skip(ChunkSize).Sum():0.000000} over the rest");
    }

    /// <summary>What the type of the cache costs.</summary>
    private static void Compare<T>(double[] losses, double[] floatLosses, double bytes, TextWriter output)
    {
        double bits = losses.Sum() / bytes / Math.Log(2), floatBits = floatLosses.Sum() / bytes / Math.Log(2);
        output.WriteLine($"{bits:0.000000} bits per byte with a cache of {CacheTypes.NameOf<T>()}, {floatBits:0.000000} with one of fp32: {bits - floatBits:+0.000000;-0.000000;0.000000}");
    }

    /// <summary>-ln p of each token but the first, given all tokens before it.</summary>
    public static double[] Losses<T>(LanguageModel model, ReadOnlySpan<int> tokens, CancellationToken cancellation = default)
        where T : unmanaged
    {
        int steps = tokens.Length - 1;
        double[] losses = new double[steps];
        using KeyValueCache cache = model.CreateCache<T>((steps + BlockSize - 1) / BlockSize, BlockSize);
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();
        int[] rows = [.. Enumerable.Range(0, ChunkSize)];
        for (int done = 0; done < steps; done += ChunkSize)
        {
            cancellation.ThrowIfCancellationRequested();
            int count = Math.Min(ChunkSize, steps - done);
            cache.Extend(sequence, count);
            batch.Clear();
            batch.Add(sequence, count);
            ReadOnlySpan<float> logits = model.Forward(cache, batch, tokens.Slice(done, count), rows.AsSpan(0, count));
            for (int i = 0; i < count; i++)
                losses[done + i] = Loss(logits.Slice(i * model.Config.Vocabulary, model.Config.Vocabulary), tokens[done + i + 1]);
        }

        return losses;
    }

    private static double Loss(ReadOnlySpan<float> logits, int token)
    {
        double largest = float.NegativeInfinity, sum = 0;
        foreach (float logit in logits) largest = Math.Max(largest, logit);
        foreach (float logit in logits) sum += Math.Exp(logit - largest);
        return largest + Math.Log(sum) - logits[token];
    }
}
