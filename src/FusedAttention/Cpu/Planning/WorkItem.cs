namespace FusedAttention.Cpu.Planning;

/// <summary>One independent piece of a call: rows of one key/value head for the prefill kernel, or a chunk of keys of several heads for the decode kernel.</summary>
internal struct WorkItem
{
    public int Sequence;
    public bool IsDecode;

    /// <summary>First key/value head.</summary>
    public int Head;

    /// <summary>Key/value heads: 1 for prefill.</summary>
    public int HeadCount;

    /// <summary>Prefill: first row. The rows of a key/value head are query * group + head in group.</summary>
    public int RowStart;

    /// <summary>Rows of each head.</summary>
    public int RowCount;

    /// <summary>Decode: the keys of this chunk.</summary>
    public int KeyStart;

    public int KeyEnd;

    /// <summary>Decode: which chunk of how many; partial results are merged in this order.</summary>
    public int Chunk;

    public int ChunkCount;

    /// <summary>Decode with several chunks: where the partial results of chunk 0 start, in floats; a chunk follows after <see cref="PartialStride"/>.</summary>
    public long PartialStart;

    public long PartialStride;

    /// <summary>Decode with several chunks: which counter says how many chunks are still to come.</summary>
    public int Counter;

    /// <summary>Multiply-adds, about.</summary>
    public double Cost;
}
