namespace FusedAttention.Cuda.Kernels;

/// <summary>The sizes of a prefill by warpgroups.</summary>
/// <param name="Consumers">Warpgroups that compute, 64 rows each; one more copies.</param>
/// <param name="Keys">Of a tile, a multiple of 16.</param>
/// <param name="QueryStages">Items whose queries are in shared memory: with two, the next one's arrive while this one is worked on.</param>
/// <param name="SeesAll">Whether every row sees all keys of its item: nobody asks what a row sees, and only the ends of an item are masked.</param>
/// <param name="ProducerRegisters">Of a thread that copies.</param>
/// <param name="ConsumerRegisters">Of a thread that computes.</param>
/// <param name="Lookups">What scores are looked up in.</param>
internal readonly record struct WarpgroupTile(int Consumers, int Keys, int QueryStages, bool SeesAll, int ProducerRegisters, int ConsumerRegisters, WarpgroupLookups Lookups = default)
{
    /// <summary>Threads of a warpgroup.</summary>
    public const int WarpgroupThreads = 128;

    /// <summary>Rows of a warpgroup.</summary>
    public const int WarpgroupRows = 64;

    /// <summary>Tiles of keys, and as many of values, in shared memory. Three or more change nothing at any dimension, and cost keys of a tile.</summary>
    public const int Stages = 2;

    public int Threads => (Consumers + 1) * WarpgroupThreads;

    /// <summary>Rows of a block.</summary>
    public int Rows => Consumers * WarpgroupRows;

    public int SharedBytes(int keyDim, int valueDim) => WarpgroupMemory.HeadBytes + (QueryStages * new BoxedRows(keyDim, Rows).Bytes)
        + (Stages * (new BoxedRows(keyDim, Keys).Bytes + new BoxedRows(valueDim, Keys).Bytes)) + Lookups.SharedBytes(Rows, Keys);
}
