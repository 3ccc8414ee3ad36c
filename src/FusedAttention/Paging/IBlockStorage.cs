namespace FusedAttention.Paging;

/// <summary>What the bookkeeping asks of whatever holds the blocks' contents, be it host or device memory.</summary>
internal interface IBlockStorage
{
    /// <summary>
    /// Copies the first <paramref name="slots"/> slots of a block, in every layer. Called under the ledger's lock; if it throws, the operation that needed the copy has not happened.
    /// A device may do it later, as long as it comes before whatever is written to or read from either block afterwards.
    /// </summary>
    void CopyBlock(int from, int to, int slots);
}
