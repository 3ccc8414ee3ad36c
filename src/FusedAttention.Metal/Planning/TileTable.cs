using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>Sizes of the prefill kernel: keys of a tile, simdgroups of a threadgroup, blocks of 8 rows of each, and the threadgroup memory that follows.</summary>
internal readonly record struct PrefillTile(int Keys, int Simdgroups, int RowBlocks, int ThreadgroupBytes)
{
    public int Rows => Simdgroups * RowBlocks * 8;
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

    /// <summary>Four simdgroups, so that a staged tile serves 32 rows, or 64 with two blocks of rows.</summary>
    private const int PrefillSimdgroups = 4;

    /// <summary>Four: decoding one query of a group of 8 with D = 128 makes two sets of four rows times two slices of the keys.</summary>
    private const int DecodeSimdgroups = 4;

    /// <summary>Floats of Q and O that a lane may hold: with 16 sums, 16 of loaded keys and what addresses take, about 110 of 128 registers.</summary>
    private const int DecodeRegisters = 64;

    /// <summary>With one row the budget may be passed this far, before too much is left in memory: dims like 88 and 96 with few common factors.</summary>
    private const int DecodeMaxRegisters = 96;

    private const int DecodeMaxRows = 8;
    private const int DecodeMaxDim = 256;

    /// <summary>
    /// The larger dimension up to which a prefill tile has 32 keys; beyond it has 16. A lane has keys * D / 256 elements in flight while it stages, keys / 4 scores, D / 4 outputs and D / 4 queries (half that in 16 bits): of
    /// 128 registers D = 192 in 16 bits spills 444 bytes with 32 keys and 188 with 16, for the same share of matrix products. D = 128 loses little with 16 (0.72 for 0.75), spills 72 bytes in place of 184, its code (9.4 KB)
    /// fits the instruction cache of an M1 (12 KB), and a tile lies in one block of a cache with 16 tokens a block, where one of 32 keys pays for an address a key. All by <c>ProxyBudgetTests</c>.
    /// </summary>
    private const int MostDimOf32Keys = 96;

    /// <summary>Keys of a tile otherwise, and with two row blocks always.</summary>
    private const int SmallTileKeys = 16;

    /// <summary>
    /// Registers that Q, O and S of two row blocks may take, where keys and values are halves and are multiplied as they are: what D = 64 takes (2 * (8 + 16 + 4)), with 127 of 128 registers in all and nothing spilled. By
    /// <c>ProxyBudgetTests</c> the share of matrix products is then 0.736 with tiles of 16 keys, for 0.716 of one block and tiles of 32, which in a cache with 16 tokens a block have 0.57; and keys and values are
    /// staged and loaded half as often.
    /// </summary>
    private const int TwoBlocksOfHalves = 56;

    /// <summary>The same where they are converted, which takes registers too: D = 48 in bfloat16 (0.652 for 0.619), D = 32 in floats (0.646 for 0.621). D = 64 in bfloat16 would spill 68 bytes.</summary>
    private const int TwoBlocksConverted = 44;

    /// <summary>The tile of a prefill, or null if its dimensions are not multiples of 8 from 32 to 256.</summary>
    public static PrefillTile? Prefill(int keyDim, int valueDim, AttentionElementType queryType, AttentionElementType keyValueType)
    {
        const int Scores = SmallTileKeys / 4;
        int queries = (keyDim + 15) / 16 * queryType.Size(), outputs = valueDim / 4;
        bool hasTwoBlocks = 2 * (queries + outputs + Scores) <= (keyValueType == AttentionElementType.Float16 ? TwoBlocksOfHalves : TwoBlocksConverted);
        return Prefill(keyDim, valueDim, keyValueType, hasTwoBlocks ? 2 : 1);
    }

    /// <summary>The same with so many blocks of 8 rows a simdgroup.</summary>
    public static PrefillTile? Prefill(int keyDim, int valueDim, AttentionElementType keyValueType, int rowBlocks)
    {
        if (!IsPrefillDim(keyDim) || !IsPrefillDim(valueDim)) return null;
        int rowBytes = Math.Max((keyDim + 15) / 16 * 16, valueDim) * keyValueType.Size();
        int keys = rowBlocks == 1 && Math.Max(keyDim, valueDim) <= MostDimOf32Keys ? 32 : SmallTileKeys;

        // A row takes 16 bytes more in threadgroup memory. 256 floats a row leave 8 keys: 16,640 bytes for 16 of them, 8,320 for 8.
        if (keys * (rowBytes + 16) > MemoryBudget - SpanBytes(PrefillSimdgroups)) keys /= 2;
        return new PrefillTile(keys, PrefillSimdgroups, rowBlocks, (keys * (rowBytes + 16)) + SpanBytes(PrefillSimdgroups));

        static bool IsPrefillDim(int dim) => dim % 8 == 0 && dim is >= MinPrefillDim and <= MaxPrefillDim;
    }

    /// <summary>
    /// The tile of a decode, or null where the plain kernel is taken. Lanes load four dimensions at a time, so as many lanes share a key as its dimensions have such groups evenly:
    /// 16 for 64, 128, 192 and 256; 8 for 32, 96, 160 and 224; 4 for 48, 80 and 112; 2 for 40, 72 and 88. Then as many rows as fit the registers: 8 with D = 64, 4 with 128, 2 with 256.
    /// </summary>
    public static DecodeTile? Decode(int keyDim, int valueDim)
    {
        if (keyDim > DecodeMaxDim || valueDim > DecodeMaxDim) return null;
        int lanes = 16;
        while (lanes >= 2 && (keyDim % (4 * lanes) != 0 || valueDim % (4 * lanes) != 0)) lanes /= 2;
        int floats = (keyDim + valueDim) / Math.Max(lanes, 1);
        if (lanes < 2 || floats > DecodeMaxRegisters) return null;
        int rows = Math.Min(lanes, DecodeMaxRows);
        while (rows > 1 && rows * floats > DecodeRegisters) rows /= 2;
        return new DecodeTile(lanes, rows, DecodeSimdgroups, (DecodeSimdgroups / 2 * rows * (valueDim + 2) * sizeof(float)) + SpanBytes(DecodeSimdgroups));
    }

    /// <summary>Threadgroup memory in which simdgroups tell each other between which keys they have seen infinities and NaN: two numbers each (<c>specials.metal</c>).</summary>
    private static int SpanBytes(int simdgroups) => simdgroups * 2 * sizeof(int);
}
