using FusedAttention.Diagnostics;

namespace FusedAttention.Paging;

/// <summary>
/// Counts blocks over all caches of the process, for whoever observes them. Caches are held weakly and asked when somebody reads, so counting costs them nothing.
/// </summary>
internal static class CacheCensus
{
    private static readonly Lock Gate = new();
    private static readonly List<WeakReference<CacheLedger>> Ledgers = [];

    /// <summary>Blocks that a sequence of any living cache uses.</summary>
    public static long UsedBlocks => Sum(static ledger => ledger.UsedBlocks);

    /// <summary>Blocks of all living caches.</summary>
    public static long TotalBlocks => Sum(static ledger => ledger.TotalBlocks);

    public static void Add(CacheLedger ledger)
    {
        // The gauges exist from the first cache on, even if no call has been made.
        AttentionTelemetry.Publish();
        lock (Gate)
        {
            Ledgers.RemoveAll(static known => !known.TryGetTarget(out _));
            Ledgers.Add(new(ledger));
        }
    }

    public static void Remove(CacheLedger ledger)
    {
        lock (Gate) Ledgers.RemoveAll(known => !known.TryGetTarget(out CacheLedger? target) || target == ledger);
    }

    private static long Sum(Func<CacheLedger, long> count)
    {
        lock (Gate)
        {
            long sum = 0;
            foreach (WeakReference<CacheLedger> known in Ledgers)
                if (known.TryGetTarget(out CacheLedger? ledger)) sum += count(ledger);
            return sum;
        }
    }
}
