namespace FusedAttention.Cpu.Decode;

/// <summary>Tile and split sizes of the decode kernel.</summary>
internal static class DecodeTiles
{
    /// <summary>
    /// Keys whose scores are computed for all heads before their values are read; tiles start at multiples of it. 64 keys keep the passes over scores long enough for
    /// whole vectors, and K of 8 heads of 128 in 16 bits is 128 KB: asked for one tile ahead, it waits in the second-level cache.
    /// </summary>
    public const int Keys = 64;

    /// <summary>Rows of a head that share the loads of a key or value: 4 rows x 2 keys are 8 sums, which with 2 keys and a query leave room in 16 registers.</summary>
    public const int Rows = 4;

    /// <summary>Keys whose scores are computed between two requests for keys of the next tile.</summary>
    public const int KeyStep = 8;

    /// <summary>Values that are summed between two requests for values of the next tile; each output row is loaded and stored once in between.</summary>
    public const int ValueStep = 16;

    /// <summary>Rows of a key/value head (queries x group) up to which a sequence is decoded rather than prefilled, beside all single queries.</summary>
    public const int MaxRows = 16;

    private const int MinChunkKeys = 512;
    private const int MaxChunks = 64;

    /// <summary>
    /// Keys of a chunk, a power of two, by the sequence's own number of keys and nothing else, so that the split never depends on the machine or the batch: 512 up to 32k
    /// keys, then as many as keep it to 64 chunks. A chunk of 512 keys is 1 MB of K and V at 8 heads of 128 in 16 bits: some 50 us of work.
    /// </summary>
    public static int ChunkKeys(int keys)
    {
        int chunk = MinChunkKeys;
        while ((keys + (long)chunk - 1) / chunk > MaxChunks) chunk *= 2;
        return chunk;
    }
}
