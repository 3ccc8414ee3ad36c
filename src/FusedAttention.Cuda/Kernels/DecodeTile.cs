namespace FusedAttention.Cuda.Kernels;

/// <summary>The sizes of a decode kernel.</summary>
/// <param name="Warps">Of a block, each with keys of its own.</param>
/// <param name="Keys">That a warp takes at a time: 16 or 32.</param>
/// <param name="Stages">Of keys and values that a warp has in shared memory, one of which it works on.</param>
/// <param name="Blocks">Of threads that share a multiprocessor.</param>
/// <param name="HasBoxes">Whether stages are of the block, and one more warp has the copy unit bring boxes of keys and of values.</param>
internal readonly record struct DecodeTile(int Warps, int Keys, int Stages, int Blocks, bool HasBoxes = false)
{
    /// <summary>Bytes of an element of keys and values: 2, or 1, of which two lie as one of the others does.</summary>
    public int ElementBytes { get; init; } = 2;

    /// <summary>Rows of an item: what one matrix product has.</summary>
    public const int Rows = 16;

    /// <summary>Keys after which the warps of a block bring their sums together: whole steps of all warps, from a multiple of it on.</summary>
    public const int SplitKeys = 512;

    /// <summary>Registers that queries, a warp's sums and two more of its share of sums may take together; 95 others are needed.</summary>
    private const int MostSumRegisters = 160;

    /// <summary>The same with boxes, where the sums of the whole leave the registers first: five warps a block are three for a quarter of a multiprocessor with two blocks, four with three, which leaves a thread 168 or 128 registers.</summary>
    private const int MostBoxSumRegisters = 56;

    /// <summary>More than D = 128 has, where there would be no room for those of groups beside three stages.</summary>
    private const int MostBoxSumRegistersButWhole = 128;

    /// <summary>The same of 8-bit elements: twice the keys of a step, and scales, take some 20 registers more.</summary>
    private const int MostEightBitBoxSumRegistersButWhole = 104;

    /// <summary>What boxes begin at multiples of.</summary>
    private const int BoxBoundary = 1024;

    /// <summary>In front of the stages, what warps tell each other: 64 bytes, and m and l of each warp and row; with boxes, the barriers of the stages behind that.</summary>
    public int HeadBytes => HasBoxes ? BoxBoundary : BarriersOffset;

    /// <summary>Where barriers of stages are: one that says it is full, and one that says it is empty, for each.</summary>
    public int BarriersOffset => 64 + (Warps * Rows * 2 * sizeof(float));

    /// <summary>Those that have keys.</summary>
    public int Threads => Warps * 32;

    /// <summary>With the warp that copies.</summary>
    public int BlockThreads => Threads + (HasBoxes ? 32 : 0);

    /// <summary>Keys of a step of all warps.</summary>
    public int TileKeys => Warps * Keys;

    /// <summary>Blocks of eight columns of O that a warp looks after where sums are brought together.</summary>
    public int ColumnBlocks(int valueDim) => ((valueDim / 8) + Warps - 1) / Warps;

    /// <summary>Which sums are kept in shared memory: 0 none, 1 those of the whole, which are touched once a group, 2 those of groups as well.</summary>
    public int SumsInShared(int keyDim, int valueDim)
    {
        int registers = (keyDim / 4) + (3 * valueDim / 4);
        return registers > (!HasBoxes ? MostSumRegisters : ElementBytes == 1 ? MostEightBitBoxSumRegistersButWhole : MostBoxSumRegistersButWhole) ? 2 : HasBoxes && registers > MostBoxSumRegisters ? 1 : 0;
    }

    /// <summary>With boxes, those of a stage: there is room for the sums of all warps, which take as much as two tiles of values.</summary>
    public int BoxesOf(int keyDim, int valueDim) => Math.Max(BoxesOf(keyDim), BoxesOf(valueDim)) + BoxesOf(valueDim);

    /// <summary>With boxes, how keys or values of a stage lie.</summary>
    public BoxedRows BoxedRowsOf(int dim) => new(dim * ElementBytes / 2, TileKeys);

    /// <summary>Keys and values of a warp's step, or with boxes of all warps' together. Between two steps the sums of the warp lie there.</summary>
    public int StageBytes(int keyDim, int valueDim) => HasBoxes ? BoxesOf(keyDim, valueDim) * TileKeys * BoxedRows.RowBytes : Math.Max(RowsOf(keyDim).BytesOf(Keys) + RowsOf(valueDim).BytesOf(Keys), Rows * valueDim * sizeof(float));

    /// <summary>The head and all stages.</summary>
    public int StagedBytes(int keyDim, int valueDim) => HeadBytes + ((HasBoxes ? 1 : Warps) * Stages * StageBytes(keyDim, valueDim));

    /// <summary>Shared memory of a block.</summary>
    public int SharedBytes(int keyDim, int valueDim) => StagedBytes(keyDim, valueDim) + (SumsInShared(keyDim, valueDim) * KeptSums.BytesOf(Threads, ColumnBlocks(valueDim)));

    private SharedRows RowsOf(int dim) => new(dim * ElementBytes / 2);

    private int BoxesOf(int dim) => BoxedRowsOf(dim).Boxes;
}
