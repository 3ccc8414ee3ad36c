namespace FusedAttention.Paging.Ledger;

/// <summary>What the index has of a prompt. It is a promise of nothing: others may take the blocks before a sequence is made of them.</summary>
internal readonly record struct PrefixMatch
{
    /// <summary>The first block that is needed: 0, or more if a window reads nothing before it.</summary>
    public int FirstBlock { get; init; }

    /// <summary>Full blocks, those before the first one included.</summary>
    public int Blocks { get; init; }

    /// <summary>A block that begins with the tokens that follow; -1 if there is none.</summary>
    public int PartialBlock { get; init; }

    /// <summary>How many of these tokens it has: less than a block.</summary>
    public int PartialTokens { get; init; }

    /// <summary>Blocks among them that nobody uses now, so that using them makes them unavailable.</summary>
    public int Revived { get; init; }

    /// <summary>Tokens that need not be computed.</summary>
    public int Tokens { get; init; }

    /// <summary>The look-up that this came of.</summary>
    internal long LookUp { get; init; }

    /// <summary>The version of the index then.</summary>
    internal long IndexVersion { get; init; }
}
