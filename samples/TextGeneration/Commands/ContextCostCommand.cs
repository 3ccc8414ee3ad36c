using System.Diagnostics;
using FusedAttention.Samples.TextGeneration.Model;

namespace FusedAttention.Samples.TextGeneration.Commands;

/// <summary>What the next token costs at growing contexts: with a cache, one row whose attention reads the context; without, the whole context again.</summary>
internal static class ContextCostCommand
{
    private const int BlockSize = 16;
    private const int ChunkSize = 512;
    private const int Trials = 20;

    public static void Run<T>(LanguageModel model, TextWriter output, CancellationToken cancellation)
        where T : unmanaged
    {
        const int Longest = 4096;
        int[] tokens = [.. Enumerable.Range(0, Longest + Trials + 1).Select(i => (int)((uint)(i * 2_654_435_761L) >> 8) % model.Config.Vocabulary)];
        using PagedKeyValueCache<T> cache = model.CreateCache<T>((tokens.Length / BlockSize) + 1, BlockSize);
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();

        // Compiles everything, so that the first line is not slower than the others.
        for (int i = 0; i < 30; i++) Extend(64);
        for (int i = 0; i < 30; i++) Extend(1);
        output.WriteLine("context   with the cache   all over again");
        foreach (int context in (ReadOnlySpan<int>)[512, 1024, 2048, Longest])
        {
            cancellation.ThrowIfCancellationRequested();
            cache.Truncate(sequence, 0);
            long start = Stopwatch.GetTimestamp();
            Extend(context);
            TimeSpan again = Stopwatch.GetElapsedTime(start);
            TimeSpan best = TimeSpan.MaxValue;
            for (int i = 0; i < Trials; i++)
            {
                start = Stopwatch.GetTimestamp();
                Extend(1);
                TimeSpan time = Stopwatch.GetElapsedTime(start);
                if (time < best) best = time;
            }

            output.WriteLine($"{context,7}   {best.TotalMilliseconds,11:0.000} ms   {again.TotalMilliseconds,11:0.0} ms");
        }

        void Extend(int count)
        {
            int position = cache.Length(sequence);
            if (position + count > Longest + Trials)
            {
                cache.Truncate(sequence, 0);
                position = 0;
            }

            for (int done = 0; done < count; done += ChunkSize)
            {
                int chunk = Math.Min(ChunkSize, count - done);
                cache.Extend(sequence, chunk);
                batch.Clear();
                batch.Add(sequence, chunk);
                model.Forward(cache, batch, tokens.AsSpan(position + done, chunk), [chunk - 1]);
            }
        }
    }
}
