namespace FusedAttention.Diagnostics;

/// <summary>
/// Counts blocks over all caches of the process, for whoever observes them. Caches are held weakly and asked when somebody reads, so counting costs them nothing.
/// </summary>
internal static class CacheCensus
{
    private static readonly Lock Gate = new();
    private static readonly List<WeakReference<IBlockCounts>> Caches = [];

    /// <summary>Blocks that a sequence of any living cache uses.</summary>
    public static long UsedBlocks => Sum(static cache => cache.UsedBlocks);

    /// <summary>Blocks of all living caches.</summary>
    public static long TotalBlocks => Sum(static cache => cache.TotalBlocks);

    public static void Add(IBlockCounts cache)
    {
        // The gauges exist from the first cache on, even if no call has been made.
        AttentionTelemetry.Publish();
        lock (Gate)
        {
            Caches.RemoveAll(static known => !known.TryGetTarget(out _));
            Caches.Add(new(cache));
        }
    }

    public static void Remove(IBlockCounts cache)
    {
        lock (Gate) Caches.RemoveAll(known => !known.TryGetTarget(out IBlockCounts? target) || target == cache);
    }

    private static long Sum(Func<IBlockCounts, long> count)
    {
        lock (Gate)
        {
            long sum = 0;
            foreach (WeakReference<IBlockCounts> known in Caches)
                if (known.TryGetTarget(out IBlockCounts? cache)) sum += count(cache);
            return sum;
        }
    }
}
