using System.Diagnostics;

namespace FusedAttention.Checking.Measurement;

/// <summary>Times the same work on several threads of its own at once.</summary>
public static class ConcurrentTrial
{
    /// <summary>From the start of the first thread to the end of the last, in seconds.</summary>
    public static double Run(int threads, Action<int> work)
    {
        if (threads == 1)
        {
            long start = Stopwatch.GetTimestamp();
            work(0);
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }

        using var together = new Barrier(threads);
        long[] starts = new long[threads];
        long[] ends = new long[threads];
        Thread[] running = [.. Enumerable.Range(0, threads).Select(i => new Thread(() =>
        {
            together.SignalAndWait();
            starts[i] = Stopwatch.GetTimestamp();
            work(i);
            ends[i] = Stopwatch.GetTimestamp();
        }))];
        foreach (Thread thread in running) thread.Start();
        foreach (Thread thread in running) thread.Join();
        return Stopwatch.GetElapsedTime(starts.Min(), ends.Max()).TotalSeconds;
    }
}
