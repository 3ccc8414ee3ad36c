namespace FusedAttention.Paging.Ledger;

/// <summary>Whatever holds the contents of a cache's blocks, be it host or device memory, as far as the bookkeeping and the cache without an element type see it.</summary>
internal interface IBlockStorage : IDisposable
{
    /// <summary>All layers together.</summary>
    long Bytes { get; }

    /// <summary>
    /// Copies the first <paramref name="slots"/> slots of a block, in every layer and plane. Called under the ledger's lock; if it throws, the operation that needed the copy has not happened.
    /// A device may do it later, as long as it comes before whatever is written to or read from either block afterwards.
    /// </summary>
    void CopyBlock(int from, int to, int slots);
}
