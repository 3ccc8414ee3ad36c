namespace FusedAttention.Cuda.Kernels;

/// <summary>What a prefill by warpgroups looks its scores up in, and the shared memory that takes.</summary>
/// <param name="HasMask">A boolean mask: warps that have little else to do make a bit of each byte, some tiles ahead.</param>
/// <param name="BiasBytes">Of an element of the bias, 2 or 4: one of those copies the bias of a tile ahead; 0 without a bias.</param>
/// <param name="HasTileMap">A mask function, of which a <see cref="TileMap"/> tells the tiles that are seen.</param>
/// <param name="RowNumbers">Numbers of each row that its score function goes by, which are computed once an item: those of its <see cref="Scores.Tracing.ScoreForm"/>.</param>
/// <param name="HasBiasOfKeys">The rows of an item have one row of the bias between them, which is kept in floats.</param>
internal readonly record struct WarpgroupLookups(bool HasMask, int BiasBytes, bool HasTileMap = false, int RowNumbers = 0, bool HasBiasOfKeys = false)
{
    /// <summary>Numbers of each tile that it goes by, which a warp of its own computes ahead.</summary>
    public TileNumberPlaces Numbers { get; init; }

    /// <summary>Tiles whose bias is there or on its way: as many as of keys, with which they go round.</summary>
    public const int BiasStages = WarpgroupTile.Stages;

    /// <summary>Columns of a bias lie in boxes of rows of 128 bytes, like keys.</summary>
    public const int BiasRowBytes = 128;

    public bool HasBias => BiasBytes > 0;

    /// <summary>Whether a tile's bias comes and goes with its keys, and has no barriers of its own: without a mask, which has tiles passed over.</summary>
    public bool HasBiasWithKeys => HasBiasOfKeys && !HasMask;

    /// <summary>Arrivals that make a tile's keys full: of who copies them, and of who brings something along.</summary>
    public int BringersOfKeys => HasBiasWithKeys || Numbers.Exist ? 2 : 1;

    /// <summary>Whether tiles that nobody sees are passed over: the warp that copies keys says with each tile which one it is.</summary>
    public bool PassesTiles => HasMask || HasTileMap;

    /// <summary>Warps that pack masks: the one that hands out, which has little else to do, and the fourth, which copies the bias where there is one.</summary>
    public int Packers => !HasMask ? 0 : HasBias ? 1 : 2;

    /// <summary>Warps that are told of items for this: the fourth.</summary>
    public int ItemReaders => HasMask || HasBias || Numbers.Exist ? 1 : 0;

    /// <summary>Warps that are told which tiles are seen, beside those that compute: the one that copies values.</summary>
    public int TileReaders => PassesTiles ? 1 : 0;

    /// <summary>Tiles whose bits are there: one that is worked on, one whose keys are on their way, and two that keep the packers ahead.</summary>
    public const int MaskStages = 4;

    /// <summary>Rows that a warp packs at a time, one a lane.</summary>
    public const int PackedRows = 32;

    /// <summary>Of a row and a tile: a word for each lane of the four that share a row, a bit for each key of the lane's.</summary>
    public const int MaskBytesOfRow = 16;

    /// <summary>Behind the bits of a tile: for every 32 rows whether one of them sees a key.</summary>
    private const int FlagBytes = 32;

    /// <summary>Bytes of a mask that one copy brings.</summary>
    public const int MaskChunk = 16;

    public static int FlagsOffset(int rows) => rows * MaskBytesOfRow;

    public static int MaskStageBytes(int rows) => FlagsOffset(rows) + FlagBytes;

    /// <summary>From one row's bytes to the next one's where they wait for being packed: an odd number of 16 bytes, so that the rows of eight lanes lie in eight different sets of banks.</summary>
    public static int MaskStride(int keys) => ((keys / MaskChunk) | 1) * MaskChunk;

    /// <summary>What a packer knows of a row of its item: where its mask begins, and which keys are in its reach.</summary>
    public const int RowBytes = 16;

    /// <summary>The item's rows, and the bytes of two parts.</summary>
    public static int PackerBytes(int rows, int keys) => (rows * RowBytes) + (2 * PackedRows * MaskStride(keys));

    /// <summary>From a box of a bias to the next one.</summary>
    public static int BiasBoxBytes(int rows) => rows * BiasRowBytes;

    /// <summary>The bias of a tile.</summary>
    public int BiasStageBytes(int rows, int keys) =>
        HasBiasOfKeys ? ((keys * sizeof(float)) + BiasRowBytes - 1) / BiasRowBytes * BiasRowBytes : ((keys * BiasBytes) + BiasRowBytes - 1) / BiasRowBytes * BiasBoxBytes(rows);

    /// <summary>Where the rows of a bias begin, if there are several.</summary>
    public int BiasRowsBytes(int rows) => HasBias && !HasBiasOfKeys ? rows * sizeof(long) : 0;

    /// <summary>What is the mask's.</summary>
    public int MaskBytes(int rows, int keys) => HasMask ? (MaskStages * MaskStageBytes(rows)) + (Packers * PackerBytes(rows, keys)) : 0;

    /// <summary>The rows' numbers.</summary>
    public int RowNumberBytes(int rows) => rows * RowNumbers * sizeof(float);

    /// <summary>The numbers of as many tiles as there are stages of keys.</summary>
    public int TileNumberBytes(int rows, int keys) => WarpgroupTile.Stages * Numbers.Bytes(rows, keys);

    /// <summary>All of it.</summary>
    /// <param name="rows">Of a block.</param>
    /// <param name="keys">Of a tile.</param>
    public int SharedBytes(int rows, int keys) => this == default ? 0
        : WarpgroupLookupMemory.HeadBytes + RowNumberBytes(rows) + TileNumberBytes(rows, keys) + MaskBytes(rows, keys) + (HasBias ? (BiasStages * BiasStageBytes(rows, keys)) + BiasRowsBytes(rows) : 0);
}
