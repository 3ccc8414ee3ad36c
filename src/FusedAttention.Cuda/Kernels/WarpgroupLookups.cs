namespace FusedAttention.Cuda.Kernels;

/// <summary>What a prefill by warpgroups looks its scores up in, and the shared memory that takes.</summary>
/// <param name="HasMask">A boolean mask: warps that have nothing else to do make a bit of each byte, some tiles ahead.</param>
internal readonly record struct WarpgroupLookups(bool HasMask)
{
    /// <summary>Warps that pack masks: those of the warpgroup that copies, but for the one that does.</summary>
    public const int Packers = 3;

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

    /// <summary>Warps that read the queue of work beside those that compute.</summary>
    public int Readers => HasMask ? Packers : 0;

    public static int FlagsOffset(int rows) => rows * MaskBytesOfRow;

    public static int MaskStageBytes(int rows) => FlagsOffset(rows) + FlagBytes;

    /// <summary>From one row's bytes to the next one's where they wait for being packed: an odd number of 16 bytes, so that the rows of eight lanes lie in eight different sets of banks.</summary>
    public static int MaskStride(int keys) => ((keys / MaskChunk) | 1) * MaskChunk;

    /// <summary>What a packer knows of a row of its item: where its mask begins, and which keys are in its reach.</summary>
    public const int RowBytes = 16;

    /// <summary>The item's rows, and the bytes of two parts.</summary>
    public static int PackerBytes(int rows, int keys) => (rows * RowBytes) + (2 * PackedRows * MaskStride(keys));

    /// <summary>All of it.</summary>
    /// <param name="rows">Of a block.</param>
    /// <param name="keys">Of a tile.</param>
    public int SharedBytes(int rows, int keys) => HasMask ? WarpgroupLookupMemory.HeadBytes + (MaskStages * MaskStageBytes(rows)) + (Packers * PackerBytes(rows, keys)) : 0;
}
