using System.Diagnostics;
using FusedAttention.Samples.TextGeneration.Model;

namespace FusedAttention.Samples.TextGeneration.Commands;

/// <summary>What the next token costs at growing contexts: with a cache, one row whose attention reads the context; without, the whole context again.</summary>
internal static class ContextCostCommand
{
    private const int BlockSize = 16;
    private const int ChunkSize = 512;
    private const int Trials = 20;

    /// <param name="model">The model.</param>
    /// <param name="longest">The longest context; those before it are 512 and its doubles.</param>
    /// <param name="output">Gets one line a context.</param>
    /// <param name="cancellation">Ends it early.</param>
    public static void Run<T>(LanguageModel model, int longest, TextWriter output, CancellationToken cancellation)
        where T : unmanaged
    {
        int[] tokens = [.. Enumerable.Range(0, longest + Trials + 1).Select(i => (int)((uint)(i * 2_654_435_761L) >> 8) % model.Config.Vocabulary)];
        using KeyValueCache cache = model.CreateCache<T>((tokens.Length / BlockSize) + 1, BlockSize);
        CacheSequence sequence = cache.CreateSequence();
        PagedBatch batch = cache.CreateBatch();

        // Compiles everything, so that the first line is not slower than the others.
        for (int i = 0; i < 30; i++) Extend(64);
        for (int i = 0; i < 30; i++) Extend(1);
        output.WriteLine("context   with the cache   all over again");
        for (int context = Math.Min(512, longest); context <= longest; context *= 2)
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
            int position = cache.GetLength(sequence);
            if (position + count > longest + Trials)
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
