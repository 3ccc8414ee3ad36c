namespace FusedAttention.Cpu.Planning;

/// <summary>What an item is worked on by.</summary>
internal enum WorkKind
{
    /// <summary>Rows of one key/value head by the prefill kernel.</summary>
    Prefill,

    /// <summary>A chunk of keys of several key/value heads by the decode kernel.</summary>
    Decode,

    /// <summary>Rows of one key/value head in double precision.</summary>
    Wide,
}

/// <summary>One independent piece of a call.</summary>
internal struct WorkItem
{
    public int Sequence;
    public WorkKind Kind;

    /// <summary>First key/value head.</summary>
    public int Head;

    /// <summary>Key/value heads: 1 unless for decode.</summary>
    public int HeadCount;

    /// <summary>Unless for decode: the first row, in the order of <see cref="Problems.AttentionProblem.RowAt"/>.</summary>
    public long RowStart;

    /// <summary>Rows of each head.</summary>
    public int RowCount;

    /// <summary>Decode: the keys of this chunk.</summary>
    public int KeyStart;

    public int KeyEnd;

    /// <summary>Decode: how many keys the sequence's queries may see, in all chunks together.</summary>
    public int VisibleKeys;

    /// <summary>Decode: which chunk of how many; partial results are merged in this order.</summary>
    public int Chunk;

    public int ChunkCount;

    /// <summary>Decode with several chunks: where the partial results of chunk 0 start, in floats; a chunk follows after <see cref="PartialStride"/>.</summary>
    public long PartialStart;

    public long PartialStride;

    /// <summary>Decode with several chunks: which counter says how many chunks are still to come.</summary>
    public int Counter;

    /// <summary>Pairs of a row and a key, about.</summary>
    public double Cost;
}
