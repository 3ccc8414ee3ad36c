using System.Numerics;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;
using FusedAttention.Scores.Tracing;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Planning;

/// <summary>The tile sizes of the kernels, with the arithmetic that chose them.</summary>
internal static partial class TileTable
{
    /// <summary>The most dimensions that any kernel takes: 32 floats a lane of each of Q and O.</summary>
    public const int MaxPlainDim = 1024;

    /// <summary>Elements that strides and beginnings are multiples of where prefill and decode are taken: 16 bytes, the longest copy from global to shared memory.</summary>
    public const int VectorElements = 8;

    /// <summary>The same in bytes.</summary>
    public const int VectorBytes = 16;

    /// <summary>
    /// Rows of a key/value head (queries times the group) up to which a sequence with more than one query is decoded: what one matrix product has, so that decoding reads keys and values once.
    /// </summary>
    public const int MostFewRows = DecodeTile.Rows;

    /// <summary>
    /// 512 keys a split: at D = 128 in 16 bits 256 KB of keys and values of one head. On an H100 a sequence alone of 4k keys takes 13 us, in splits of 1,024 18, whole 44.
    /// </summary>
    public const int MinSplitKeys = DecodeTile.SplitKeys;

    /// <summary>
    /// 2,048 keys a group, where the decode kernel folds splits: 8 sequences of 8k keys over 8 heads are 256 groups, as many blocks as an H100 has at a time, and partial results are a two-hundredth of what is read with 8 query heads
    /// a key/value head.
    /// </summary>
    public const int MinGroupKeys = 4 * DecodeTile.SplitKeys;

    /// <summary>Blocks along y that a grid has, which is where key/value heads go.</summary>
    public const int MostKeyValueHeads = 65535;

    /// <summary>mma.sync of bfloat16, and copies to shared memory behind a kernel's back, came with compute capability 8.0.</summary>
    public const int FirstMatrixMajor = 8;

    /// <summary>Warps of a block of the plain kernel, one row each at a time.</summary>
    public const int PlainWarps = 4;

    /// <summary>Rows of a plain item: two a warp, one after the other, so that a long call does not have a block for every four rows.</summary>
    public const int PlainItemRows = 8;

    /// <summary>Operations a score of a function that is not long: a bias by distance has two, distances in a grid beside the tile's numbers six.</summary>
    private const int MostShortCost = 6;

    /// <summary>Shared memory that the system takes of each block.</summary>
    private const int ReservedSharedBytes = 1024;

    /// <summary>
    /// Best first, of those that fit the device; TFLOP/s of an H100 (burst; fp16, full, 8k keys; FlashAttention 2 of torch 2.11 in the same process: 311 at D = 64, 354 at 96, 362 at 128), before logits of 4e4 were exact, which cost D = 64 5 % and D = 128 1 %. Key dimensions up to
    /// 192 over values up to 128: a warp with 32 rows has D/2 x 2 floats of O and 64 of S, and two blocks share a multiprocessor, one's softmax beside the other's products.
    /// D = 64: 4x32 rows x 64 keys 361, x 96 298 (spills), x 32 308; one stage 293. D = 96: x 64 327, x 32 317. D = 128: x 64 383, x 48 349, x 32 322; 8x16 rows 268. D = 192/128: x 32 327, 8x16 rows x 64 257.
    /// With functions, causal, us, 4x32 rows x 64 keys, x 32 and 8x16 x 64: D = 64 a bias by distance 2,028, 2,382 and 2,809, a factor by head 1,825, 2,206 and 2,703, documents 660, - and 914; D = 128 1,715, 1,996 and 2,311,
    /// 1,666, 1,938 and 2,301, 565, - and 714. Of long ones x 64 spills: D = 128 T5 2,328, 2,400 and 2,634, a grid 1,920, 2,219 and 2,440, all of it computed for each score.
    /// </summary>
    private static readonly PrefillTile[] NarrowPrefill =
    [
        new(Warps: 4, RowsOfWarp: 32, Keys: 64, Blocks: 2), new(Warps: 4, RowsOfWarp: 32, Keys: 32, Blocks: 2), new(Warps: 4, RowsOfWarp: 32, Keys: 64, Blocks: 1),
        new(Warps: 4, RowsOfWarp: 32, Keys: 32, Blocks: 1), new(Warps: 4, RowsOfWarp: 16, Keys: 16, Blocks: 1),
    ];

    /// <summary>32 rows of 256 columns would be all of a thread's registers: 16 rows. D = 256: 8x16 rows x 64 keys 285, x 32 250; 4x16 x 64 with one stage, two blocks 266; FlashAttention 2: 329.</summary>
    private static readonly PrefillTile[] WidePrefill =
    [
        new(Warps: 8, RowsOfWarp: 16, Keys: 64, Blocks: 1), new(Warps: 8, RowsOfWarp: 16, Keys: 32, Blocks: 1), new(Warps: 4, RowsOfWarp: 16, Keys: 32, Blocks: 1),
        new(Warps: 4, RowsOfWarp: 16, Keys: 16, Blocks: 1),
    ];

    /// <summary>Two warps for 32 rows and 256 columns: at D = 256 363 TFLOP/s, where 8x16 rows x 64 keys, copies at once, have 278, and FlashAttention 2 336. 64 keys take 217 KB, 32 keys 145.</summary>
    private static readonly PrefillTile[] PairPrefill =
    [
        new(Warps: 8, RowsOfWarp: 32, Keys: 64, Blocks: 1) { HasPairs = true }, new(Warps: 8, RowsOfWarp: 32, Keys: 32, Blocks: 1) { HasPairs = true },
    ];

    /// <summary>
    /// A stage of a warp is 9 KB at D = 128: 104 KB with four warps of three, twice a multiprocessor. Two stages are under way in each: 140 KB a multiprocessor, where the read rate times its delay is 40.
    /// More blocks of fewer warps, fewer stages, or steps of 32 keys changed nothing by more than 2 %. Blocks that stay and take one item after the other, the next one's keys on their way, were slower: 978 us
    /// against 764 at 64 sequences of 8k keys in splits of 512, since all blocks come to the ends of their items at the same time.
    /// </summary>
    private static readonly DecodeTile[] DecodeTiles =
    [
        new(Warps: 4, Keys: 16, Stages: 3, Blocks: 4), new(Warps: 4, Keys: 16, Stages: 3, Blocks: 2), new(Warps: 4, Keys: 16, Stages: 3, Blocks: 1), new(Warps: 4, Keys: 16, Stages: 2, Blocks: 1),
        new(Warps: 2, Keys: 16, Stages: 3, Blocks: 1), new(Warps: 2, Keys: 16, Stages: 2, Blocks: 1), new(Warps: 1, Keys: 16, Stages: 3, Blocks: 1),
    ];

    /// <summary>
    /// With keys and values of 8 bits, steps of 32 keys: they are 9 KB at D = 128, as those of 16 keys of 16 bits are, and have room for a warp's sums. Two blocks leave a thread 255 registers.
    /// </summary>
    private static readonly DecodeTile[] EightBitDecodeTiles =
    [
        .. ((DecodeTile[])[
            new(Warps: 4, Keys: 32, Stages: 3, Blocks: 2), new(Warps: 4, Keys: 32, Stages: 2, Blocks: 2), new(Warps: 4, Keys: 32, Stages: 3, Blocks: 1), new(Warps: 4, Keys: 32, Stages: 2, Blocks: 1),
            new(Warps: 2, Keys: 32, Stages: 2, Blocks: 1), new(Warps: 1, Keys: 32, Stages: 2, Blocks: 1),
        ]).Select(static tile => tile with { ElementBytes = 1 }),
    ];

    /// <summary>
    /// The same of boxes, tiles of 64 keys for four warps: 32 KB a stage at D = 128, two of them and the sums of the whole, twice a multiprocessor. On an H100 64 sequences of 8k keys over 8 heads of 128 take 696 us, with
    /// three stages 703. Three blocks where they fit (D = 64); four would leave a thread 96 registers, and D = 64 takes 118.
    /// </summary>
    private static readonly DecodeTile[] DecodeBoxTiles =
    [
        new(Warps: 4, Keys: 16, Stages: 3, Blocks: 3, HasBoxes: true), new(Warps: 4, Keys: 16, Stages: 2, Blocks: 2, HasBoxes: true),
        new(Warps: 4, Keys: 16, Stages: 3, Blocks: 1, HasBoxes: true), new(Warps: 4, Keys: 16, Stages: 2, Blocks: 1, HasBoxes: true),
    ];

    /// <summary>The same with keys and values of 8 bits: tiles of 128 keys, as many bytes.</summary>
    private static readonly DecodeTile[] EightBitDecodeBoxTiles = [.. DecodeBoxTiles.Select(static tile => tile with { Keys = 32, ElementBytes = 1 })];

    /// <summary>Groups that long sequences are kept to, and the most splits that are items: as many as give a sequence alone some 512 blocks; never fewer than 8, and never more than 64.</summary>
    public static int MostGroups(int keyValueHeads) => Math.Clamp(1 << BitOperations.Log2((uint)(512 / keyValueHeads)), 8, 64);

    /// <summary>
    /// Splits that the plain kernel keeps long sequences to: a sequence alone has some 128 blocks, one a multiprocessor, whatever its key/value heads; never fewer than 8 splits, and never more than 64, whose merge would
    /// be seen.
    /// </summary>
    public static int MostSplits(int keyValueHeads) => Math.Clamp(1 << BitOperations.Log2((uint)(128 / keyValueHeads)), 8, 64);

    /// <summary>Whether both products are of matrices that the tensor cores take: keys, values and queries of one 16-bit type.</summary>
    public static bool HasMatrixTypes(AttentionProblem problem) => problem.QueryType == problem.KeyValueType && problem.QueryType.Size() == sizeof(ushort);

    /// <summary>Whether the products are of 16-bit queries with 8-bit keys and values.</summary>
    public static bool HasEightBitTypes(AttentionProblem problem) => problem.QueryType.Size() == sizeof(ushort) && problem.KeyValueType.TakesScales();

    /// <summary>Whether prefill and decode take these dimensions: multiples of 8 from 16 to 256; of 8-bit elements multiples of 16, which are as many bytes.</summary>
    /// <param name="keyDim">Elements of a key.</param>
    /// <param name="valueDim">Elements of a value.</param>
    /// <param name="elementBytes">Of an element of keys and values.</param>
    public static bool HasMatrixDims(int keyDim, int valueDim, int elementBytes = sizeof(ushort))
    {
        return IsDim(keyDim) && IsDim(valueDim);

        bool IsDim(int dim) => dim * elementBytes % VectorBytes == 0 && dim is >= 16 and <= 256;
    }

    /// <summary>The tile of a prefill, or null if the kernels do not take the dimensions, or no tile fits the device.</summary>
    /// <param name="keyDim">Elements of a key.</param>
    /// <param name="valueDim">Elements of a value.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="features">What scores go through. With a bias, addresses of two rows a thread fit beside the sums, those of four would spill; a mask takes shared memory.</param>
    /// <param name="elementBytes">Of an element of keys and values.</param>
    /// <param name="score">The score function; null without one.</param>
    /// <param name="group">Query heads of a key/value head.</param>
    public static PrefillTile? Prefill(int keyDim, int valueDim, CudaDeviceDescription device, CallFeatures features, int elementBytes = sizeof(ushort), ScoreForm? score = null, int group = 1)
    {
        if (!HasMatrixDims(keyDim, valueDim, elementBytes)) return null;
        bool hasMask = (features & CallFeatures.Mask) != CallFeatures.None, hasBias = (features & CallFeatures.Bias) != CallFeatures.None;
        bool isNarrow = keyDim <= 192 && valueDim <= 128 && !hasBias && elementBytes == sizeof(ushort);
        bool isLong = IsLong(score, group) || ((features & CallFeatures.MaskFunction) != CallFeatures.None && (features & (CallFeatures.Alibi | CallFeatures.SoftCap | CallFeatures.ScoreFunction)) != CallFeatures.None);
        if (HasPairs(valueDim, features, elementBytes))
        {
            foreach (PrefillTile tile in PairPrefill)
                if (Fits(tile.SharedBytes(keyDim, valueDim, hasMask: false), tile.Blocks, device)) return tile;
        }

        // Widening 8 bits takes registers as well, and so do addresses of scales: D = 128 spills 24 bytes in the narrow tile.
        foreach (PrefillTile sizes in isNarrow ? NarrowPrefill : WidePrefill)
        {
            if (isNarrow && isLong && sizes.Keys > 32) continue;
            PrefillTile tile = sizes with { ElementBytes = elementBytes, RowNumbers = score?.RowNumbers.Length ?? 0, Numbers = TileNumberPlaces.Of(score, group) };
            if (Fits(tile.SharedBytes(keyDim, valueDim, hasMask), tile.Blocks, device)) return tile;
        }

        return null;
    }

    /// <summary>
    /// Whether pairs of warps share rows: where values have so many columns that a warp has no room for sums of 32 rows, and halves of them are whole products. A look at a mask or a function's bits is one warp's, addresses of four rows of a bias
    /// would spill, and so would what a score function takes.
    /// </summary>
    private static bool HasPairs(int valueDim, CallFeatures features, int elementBytes) =>
        valueDim > 128 && valueDim % 32 == 0 && elementBytes == sizeof(ushort)
        && (features & (CallFeatures.Mask | CallFeatures.Bias | CallFeatures.ScoreFunction | CallFeatures.MaskFunction)) == CallFeatures.None;

    /// <summary>
    /// Whether a score function takes more registers than are left beside the most scores that a thread can have: what knows it is how many operations each score takes beside the tile's numbers. Of the library's, straight distances in a grid and tanh do, and T5's buckets where heads share keys and values.
    /// </summary>
    /// <param name="score">The score function; null without one.</param>
    /// <param name="group">Query heads of a key/value head: rows of one head have more of it once a tile.</param>
    private static bool IsLong(ScoreForm? score, int group) => score is not null && score.NumbersOfTile(group == 1).ScoreCost > MostShortCost;

    /// <summary>The tile of a decode, or null if the kernels do not take the dimensions, or no tile fits the device.</summary>
    /// <param name="keyDim">Elements of a key.</param>
    /// <param name="valueDim">Elements of a value.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="elementBytes">Of an element of keys and values.</param>
    /// <param name="features">What scores go through. Functions leave no room for more than two blocks: with 128 registers a thread they spill 72 bytes beside a mask and a bias.</param>
    public static DecodeTile? Decode(int keyDim, int valueDim, CudaDeviceDescription device, int elementBytes = sizeof(ushort), CallFeatures features = CallFeatures.None) =>
        First(elementBytes == 1 ? EightBitDecodeTiles : DecodeTiles, keyDim, valueDim, device, elementBytes, features);

    /// <summary>The tile of a decode by boxes, or null.</summary>
    /// <inheritdoc cref="Decode"/>
    public static DecodeTile? DecodeBoxes(int keyDim, int valueDim, CudaDeviceDescription device, int elementBytes = sizeof(ushort), CallFeatures features = CallFeatures.None) =>
        First(elementBytes == 1 ? EightBitDecodeBoxTiles : DecodeBoxTiles, keyDim, valueDim, device, elementBytes, features);

    private static DecodeTile? First(DecodeTile[] tiles, int keyDim, int valueDim, CudaDeviceDescription device, int elementBytes, CallFeatures features)
    {
        if (!HasMatrixDims(keyDim, valueDim, elementBytes)) return null;
        int mostBlocks = (features & (CallFeatures.ScoreFunction | CallFeatures.MaskFunction)) != CallFeatures.None ? 2 : int.MaxValue;
        foreach (DecodeTile tile in tiles)
            if (tile.Blocks <= mostBlocks && Fits(tile.SharedBytes(keyDim, valueDim), tile.Blocks, device)) return tile;
        return null;
    }

    private static bool Fits(int sharedBytes, int blocks, CudaDeviceDescription device) => (sharedBytes * blocks) + ((blocks - 1) * ReservedSharedBytes) <= device.MaxSharedMemory;
}
