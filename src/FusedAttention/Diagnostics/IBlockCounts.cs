namespace FusedAttention.Diagnostics;

/// <summary>What a paged cache tells its observers. Both may be read at any time, by any thread.</summary>
internal interface IBlockCounts
{
    /// <summary>Blocks that a sequence uses.</summary>
    int UsedBlocks { get; }

    /// <summary>Blocks of the cache.</summary>
    int TotalBlocks { get; }
}
