using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>
/// Sizes of the prefill kernel: keys of a tile, simdgroups of a threadgroup, blocks of 8 rows of each, simdgroups that have the dimensions of the same rows among them, and the threadgroup memory that follows.
/// </summary>
internal readonly record struct PrefillTile(int Keys, int Simdgroups, int RowBlocks, int DimParts, int ThreadgroupBytes)
{
    public int Rows => Simdgroups / DimParts * RowBlocks * 8;
}

/// <summary>Sizes of the decode kernel: lanes that share a key, query rows that share its load, simdgroups of a threadgroup, and the threadgroup memory that follows.</summary>
internal readonly record struct DecodeTile(int Lanes, int Rows, int Simdgroups, int ThreadgroupBytes)
{
    /// <summary>Rows that a threadgroup takes at most.</summary>
    public int ItemRows => Rows * Simdgroups;

    /// <summary>Keys of a tile: one score for each of 32 lanes.</summary>
    public int Keys => 32 / Rows;
}

/// <summary>The tile sizes of the kernels, with the arithmetic that chose them. None of it was timed on Apple hardware.</summary>
internal static class TileTable
{
    /// <summary>
    /// Threadgroup memory that no kernel passes: half of what every device has, because Metal's shader validation doubles a kernel's use, and several threadgroups should be
    /// resident on a core.
    /// </summary>
    public const int MemoryBudget = 16 * 1024;

    /// <summary>The most dimensions that any kernel takes: 32 floats a lane of each of Q, O and a tile's sum.</summary>
    public const int MaxPlainDim = 1024;

    /// <summary>Elements that queries, keys and values are loaded in at once, where they lie so.</summary>
    public const int VectorElements = 4;

    /// <summary>
    /// Elements from one key to the next that prefill and decode take: addresses of a tile's keys are 32-bit distances from its first, and a tile has 32 keys at most. Keys farther apart are the plain kernel's.
    /// </summary>
    public const long MostTokenStride = 1 << 26;

    /// <summary>Simdgroups of a threadgroup of the plain kernel and of the merge of splits, one row each at a time.</summary>
    public const int PlainSimdgroups = 4;

    /// <summary>Rows of a plain item: two a simdgroup, so that a long prefill does not have an item for every four rows.</summary>
    public const int PlainItemRows = 8;

    /// <summary>
    /// Rows of a key/value head (queries times the group) up to which a sequence with more than one query is decoded: a block of the prefill kernel has as many, and from there on
    /// its products by matrices pay.
    /// </summary>
    public const int MostFewRows = 32;

    /// <summary>
    /// 256 keys a split up to 16k keys, then as many as keep it to <see cref="MostSplits"/>. With 8 key/value heads of 128 in 16 bits a split of 256 keys of one head is 128 KB, and a
    /// context of 1k makes 32 threadgroups, for 8 to 40 cores.
    /// </summary>
    public const int MinSplitKeys = 256;

    public const int MostSplits = 64;

    /// <summary>
    /// What an element that is moved counts as, in floating-point operations: an M1 does 38 of them at its peak (2.6 TFLOP/s) while a byte comes from memory (68 GB/s), and reading and writing take four
    /// bytes of the 16-bit types.
    /// </summary>
    public const double CostOfElement = 150;

    private const int MinPrefillDim = 32;
    private const int MaxPrefillDim = 256;

    /// <summary>Four simdgroups for each part of the dimensions, so that a staged tile serves 32 rows, or 64 with two blocks of rows.</summary>
    private const int PrefillSimdgroups = 4;

    /// <summary>Four: decoding one query of a group of 8 with D = 128 makes two sets of four rows times two slices of the keys.</summary>
    private const int DecodeSimdgroups = 4;

    /// <summary>Floats of Q and O that a lane may hold: with 16 sums, 16 of loaded keys and what addresses take, about 110 of 128 registers.</summary>
    private const int DecodeRegisters = 64;

    /// <summary>What dimensions with few common factors may come to with lanes that have as much each; with more the plain kernel is taken.</summary>
    private const int DecodeMaxRegisters = 96;

    /// <summary>
    /// The most that a lane may hold of one row. Where lanes with as much each would hold more there are twice or four times as many, of which some have nothing in the last turn: D = 72 and 88 have 4 lanes with five and six turns of 16 dimensions
    /// in place of 2 with 36 and 44 floats of Q and of O each, which spilled up to 162 times a tile in the proxy, and D = 224 in floats has 16 with four turns of 64 in place of 8, which spilled 33 times. Two rows of such dimensions spill too:
    /// 78 times at D = 88 with 8 lanes and 36 times at D = 224, in floats.
    /// </summary>
    private const int DecodeEvenRegisters = 48;

    /// <summary>
    /// The same for 8 lanes and elements smaller than floats, of which fewer registers are under way: what D = 224 takes, where the lanes of a step read 64 bytes of each key in 16 bits. By <c>ProxyBudgetTests</c> a tile takes 2,154 cycles
    /// in half with them and 2,726 with 16 lanes, and spills nothing, or with all features 12 bytes (16 in bfloat16) outside of the loop. Fewer lanes stay with the smaller number in all types: 2 of them at D = 56, 72 and 88 would take a sixth of the
    /// cycles less in half, but read 16 bytes of each of 16 keys in a step.
    /// </summary>
    private const int DecodeEvenRegistersOfSmallElements = 56;

    private const int DecodeMaxRows = 8;
    private const int DecodeMaxDim = 256;

    /// <summary>
    /// The larger dimension up to which a prefill tile has 32 keys, if it has one block of rows; all others have <see cref="SmallTileKeys"/>. D = 128 in half loses little with 16 keys (0.76 of the cycles are matrix products, for
    /// 0.79), its code (7.9 KB, 9.9 with all features) fits the instruction cache of an M1 (12 KB), which that of 32 keys does with few features alone (11.1, 14.0), and a tile lies in one block of a cache with 16 tokens a block, where one of
    /// 32 keys pays for an address a key. All by <c>ProxyBudgetTests</c>.
    /// </summary>
    private const int MostDimOf32Keys = 96;

    private const int SmallTileKeys = 16;

    /// <summary>
    /// Registers that Q, O and S of one block of rows may take for a simdgroup to have all dimensions: what D = 192 takes in half (24 + 48 + 4) or D = 144 in the other types (36 + 36 + 4), with 115 to 118 of 128 registers
    /// in all, or 124 with all features, and nothing spilled. With more, two simdgroups share the dimensions: D = 256 takes 103 registers in half, 120 in bfloat16 and 122 in floats, where one simdgroup would spill 60 bytes
    /// in half. What it costs is that of two simdgroups one has no softmax and waits: the other's loop has 0.68 of matrix products at D = 160 in floats, where 0.75 would spill, 32 bytes with all features.
    /// </summary>
    private const int OneSimdgroup = 76;

    /// <summary>
    /// The same for two blocks of rows, which have keys and values staged and loaded half as often: what D = 64 takes where elements are converted (2 * (16 + 16 + 4)), with 115 registers in all, or 128 with all
    /// features. By <c>ProxyBudgetTests</c> the share of matrix products is then 0.73 in floats with tiles of 16 keys, for 0.70 of one block and tiles of 32, and 0.71 for 0.66 in bfloat16; D = 80 in half has 0.77 for 0.74.
    /// D = 72 in floats would spill 60 bytes with all features.
    /// </summary>
    private const int TwoBlocks = 72;

    /// <summary>The same over codes of 8 bits, whose widening takes some registers of its own and whose scales take some more: D = 64 under halves (2 * (8 + 16 + 4)) has 118, where 72 and 80 would spill 8 bytes, and 64 under floats 20.</summary>
    private const int TwoBlocksOfCodes = 56;

    /// <summary>The tile of a prefill, or null if its dimensions are not multiples of 8 from 32 to 256.</summary>
    public static PrefillTile? Prefill(int keyDim, int valueDim, AttentionElementType queryType, AttentionElementType keyValueType)
    {
        // Queries that are not multiplied as they lie are in registers as what they are multiplied as.
        int queries = (keyDim + 15) / 16 * (queryType == AttentionElementType.Float16 ? 2 : 4);
        int registers = queries + (valueDim / 4) + (SmallTileKeys / 4);
        int twoBlocks = keyValueType.IsEightBit() ? TwoBlocksOfCodes : TwoBlocks;
        return Prefill(keyDim, valueDim, keyValueType, rowBlocks: 2 * registers <= twoBlocks ? 2 : 1, dimParts: registers > OneSimdgroup ? 2 : 1);
    }

    /// <summary>The same with so many blocks of 8 rows a simdgroup, and so many simdgroups for the dimensions of each.</summary>
    public static PrefillTile? Prefill(int keyDim, int valueDim, AttentionElementType keyValueType, int rowBlocks, int dimParts)
    {
        if (!IsPrefillDim(keyDim) || !IsPrefillDim(valueDim)) return null;
        int simdgroups = PrefillSimdgroups * dimParts;

        // Codes are staged as halves, and each key's two scales beside them.
        int elementBytes = keyValueType.IsEightBit() ? AttentionElementType.Float16.Size() : keyValueType.Size(), scaleBytes = keyValueType.IsEightBit() ? 2 * sizeof(float) : 0;
        int rowBytes = (Math.Max(PaddedTo(16 * dimParts, keyDim), PaddedTo(8 * dimParts, valueDim)) * elementBytes) + 16 + scaleBytes;
        int keys = rowBlocks == 1 && dimParts == 1 && Math.Max(keyDim, valueDim) <= MostDimOf32Keys ? 32 : SmallTileKeys;

        // 256 floats a row leave 8 keys: 16,640 bytes for 16 of them alone.
        if (Bytes(keys) > MemoryBudget) keys /= 2;
        return new PrefillTile(keys, simdgroups, rowBlocks, dimParts, Bytes(keys));

        static bool IsPrefillDim(int dim) => dim % 8 == 0 && dim is >= MinPrefillDim and <= MaxPrefillDim;

        static int PaddedTo(int multiple, int dim) => (dim + multiple - 1) / multiple * multiple;

        // A row takes 16 bytes more than its elements, and its scales. Behind the tile are the item's notes, and with two parts what their lanes exchange: two floats for every 8 keys, and two for the row.
        int Bytes(int keys) => (keys * rowBytes) + 16 + (dimParts > 1 ? PrefillSimdgroups * rowBlocks * ((keys / 8) + 1) * 32 * 2 * sizeof(float) : 0);
    }

    /// <summary>
    /// The tile of a decode, or null where the plain kernel is taken. Lanes load four dimensions at a time, so as many lanes share a key as its dimensions have such groups evenly:
    /// 16 for 64, 128, 192 and 256; 8 for 32, 96 and 160; 4 for 48, 80 and 112; 2 for 40. Then as many rows as fit the registers: 8 with D = 64, 4 with 128, 2 with 256. Dimensions of which that is too much for a lane, 56, 72, 88 and 224,
    /// have more lanes, unevenly, and one row; 224 in floats alone, as other elements leave it registers.
    /// </summary>
    public static DecodeTile? Decode(int keyDim, int valueDim, AttentionElementType keyValueType)
    {
        if (keyDim > DecodeMaxDim || valueDim > DecodeMaxDim) return null;
        int lanes = 16;
        while (lanes >= 2 && (keyDim % (4 * lanes) != 0 || valueDim % (4 * lanes) != 0)) lanes /= 2;
        if (lanes < 2 || FloatsOf(lanes) > DecodeMaxRegisters) return null;
        int rows = FloatsOf(lanes) > DecodeEvenRegisters ? 1 : Math.Min(lanes, DecodeMaxRows);
        while (FloatsOf(lanes) > MostFloats(lanes)) lanes *= 2;
        int floats = FloatsOf(lanes);
        while (rows > 1 && rows * floats > DecodeRegisters) rows /= 2;
        return new DecodeTile(lanes, rows, DecodeSimdgroups, (DecodeSimdgroups / 2 * rows * (valueDim + 2) * sizeof(float)) + SpanBytes(DecodeSimdgroups));

        int MostFloats(int lanes) => lanes >= 8 && keyValueType.Size() < sizeof(float) ? DecodeEvenRegistersOfSmallElements : DecodeEvenRegisters;

        // Four dimensions of a key, and of a value, for each turn of the lanes.
        int FloatsOf(int lanes) => 4 * (((keyDim + (4 * lanes) - 1) / (4 * lanes)) + ((valueDim + (4 * lanes) - 1) / (4 * lanes)));
    }

    /// <summary>Threadgroup memory in which simdgroups tell each other between which keys they have seen infinities and NaN: two numbers each (<c>specials.metal</c>).</summary>
    private static int SpanBytes(int simdgroups) => simdgroups * 2 * sizeof(int);
}
