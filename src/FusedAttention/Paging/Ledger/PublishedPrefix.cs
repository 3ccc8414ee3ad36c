namespace FusedAttention.Paging.Ledger;

/// <summary>How far a sequence's blocks are in the prefix index, so that publishing goes on from there.</summary>
internal struct PublishedPrefix
{
    /// <summary>Leading blocks that the index has, this sequence's or other ones with the same tokens.</summary>
    public int Blocks;

    /// <summary>What they stand for.</summary>
    public ulong Key;

    /// <summary>The index's block of the last of them.</summary>
    public int Last;

    /// <summary>Its entry then.</summary>
    public long LastSerial;

    /// <summary>The last of them that is another sequence's alone, so that the index may lose it while this sequence lives; -1 if there is none.</summary>
    public int Foreign;

    /// <summary>Its entry then.</summary>
    public long ForeignSerial;

    /// <summary>The epoch in which this is true.</summary>
    public long Epoch;
}
