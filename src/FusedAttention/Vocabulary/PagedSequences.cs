namespace FusedAttention;

/// <summary>
/// Which sequences a paged call works on: how many query tokens each has, how many keys, and in which blocks of the caches those keys lie.
/// Key <c>j</c> of sequence <c>s</c> is slot <c>j % blockSize</c> of block <c>BlockTables[s * MaxBlocksPerSequence + j / blockSize]</c>.
/// </summary>
public readonly ref struct PagedSequences
{
    /// <summary>Names the arrays; they are read during the call only.</summary>
    /// <param name="cumulativeQueryLengths">Sequences + 1 ascending numbers from 0 to the number of queries: sequence s owns query rows [s] to [s + 1].</param>
    /// <param name="contextLengths">Keys of each sequence, its new query tokens' own keys included; 0 is allowed.</param>
    /// <param name="blockTables">Sequences x <paramref name="maxBlocksPerSequence"/> physical block ids, row by row; entries past a sequence's last needed block are not read.</param>
    /// <param name="maxBlocksPerSequence">The length of a row of <paramref name="blockTables"/>.</param>
    public PagedSequences(ReadOnlySpan<int> cumulativeQueryLengths, ReadOnlySpan<int> contextLengths, ReadOnlySpan<int> blockTables, int maxBlocksPerSequence)
    {
        CumulativeQueryLengths = cumulativeQueryLengths;
        ContextLengths = contextLengths;
        BlockTables = blockTables;
        MaxBlocksPerSequence = maxBlocksPerSequence;
    }

    /// <summary>Sequences + 1 ascending numbers: sequence s owns query rows [s] to [s + 1].</summary>
    public ReadOnlySpan<int> CumulativeQueryLengths { get; }

    /// <summary>Keys of each sequence, its new query tokens' own keys included.</summary>
    public ReadOnlySpan<int> ContextLengths { get; }

    /// <summary>Physical block ids, one row of <see cref="MaxBlocksPerSequence"/> a sequence.</summary>
    public ReadOnlySpan<int> BlockTables { get; }

    /// <summary>The length of a row of <see cref="BlockTables"/>.</summary>
    public int MaxBlocksPerSequence { get; }
}
