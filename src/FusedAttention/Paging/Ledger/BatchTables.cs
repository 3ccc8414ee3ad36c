namespace FusedAttention.Paging.Ledger;

/// <summary>The sequences of a batch as they were when each was added, with copies of their block tables.</summary>
internal readonly ref struct BatchTables
{
    public required ReadOnlySpan<CacheSequence> Sequences { get; init; }

    /// <summary>Sequence s has rows [s] to [s + 1]: its last tokens.</summary>
    public required ReadOnlySpan<int> CumulativeLengths { get; init; }

    public required ReadOnlySpan<int> ContextLengths { get; init; }

    /// <summary>The ledger's version when each sequence was added.</summary>
    public required ReadOnlySpan<long> AddedAt { get; init; }

    /// <summary>Block tables, a row each.</summary>
    public required TableRows Rows { get; init; }

    public int RowsOf(int sequence) => CumulativeLengths[sequence + 1] - CumulativeLengths[sequence];
}
