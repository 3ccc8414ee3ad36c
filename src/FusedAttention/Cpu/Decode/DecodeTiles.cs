namespace FusedAttention.Cpu.Decode;

/// <summary>Tile and split sizes of the decode kernel.</summary>
internal static class DecodeTiles
{
    /// <summary>
    /// Keys whose scores are computed for all heads before their values are read; tiles start at multiples of it. With 128 the passes over a row of scores cost about 10 % of its
    /// products at D = 128; 64 made it 15 %.
    /// </summary>
    public const int Keys = 128;

    /// <summary>
    /// Floats between two rows of scores. Sums of keys beyond the tile's last may be stored up to <see cref="KeyStep"/> floats further, and rows a power of two apart would
    /// compete for cache sets.
    /// </summary>
    public const int ScoreStride = Keys + 16;

    /// <summary>Rows of a head that share the loads of a key or value: 4 rows x 2 keys are 8 sums, which with 2 keys and a query leave room in 16 registers.</summary>
    public const int Rows = 4;

    /// <summary>
    /// Keys that all heads pass before the next keys come: 8 tokens are read side by side, each in the order of memory through all its heads. With heads outside and 64 keys inside
    /// 12 GB/s were measured where this order gives 17 (binary16, 32 heads of 128, one thread).
    /// </summary>
    public const int KeyStep = 8;

    /// <summary>The same for values and a single row; each part of the output is loaded and stored once a step.</summary>
    public const int ValueStep = 8;

    /// <summary>The same for four rows at a time, where arithmetic counts for more than the order of reading.</summary>
    public const int ValueStepOfFourRows = 16;

    /// <summary>
    /// How many tokens ahead of its use a token is asked for. Measured at 32k keys, one thread: without asking 7 GB/s (8 heads of 128 in 16 bits), 8 ahead 12.5, 16 ahead 14.4, 32
    /// and more 13.6; with 32 heads 14.8 without, 24 from 8 on, and 21 at 120, when the second-level cache has lost what was asked for.
    /// </summary>
    public const int TokensAhead = 16;

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
