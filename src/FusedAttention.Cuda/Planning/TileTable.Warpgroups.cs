using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Planning;

/// <content>Tiles of the prefill by warpgroups.</content>
internal static partial class TileTable
{
    /// <summary>Matrix products of warpgroups are compute capability 9.0's, and no other's.</summary>
    public const int WarpgroupMajor = 9;

    /// <summary>What knows the instructions, and encodes maps of tensors.</summary>
    public const int FirstWarpgroupDriver = 12000;

    /// <summary>
    /// The first that has room for the dimensions, by what scores are looked up in (a mask, the bytes of a bias). S, P and O take N/2, N/4 and Dv/2 registers of a thread, and about 32 more are needed, with ALiBi, a soft cap or functions 48: of 232 with two warpgroups that compute, 160 with three.
    /// Shared memory takes the queries and two stages of keys and values, 227 KB together.
    /// </summary>
    /// <remarks>
    /// TFLOP/s on an H100 (fp16, 8k keys, burst; the vendor's library in the same process), full and causal: D = 64, three warpgroups x 128 keys 616 and 563 (498, 464). D = 128 full, two x 176 744 (662), causal x 128 705
    /// (594). D = 256, two x 80 796 and 750 (715, 615). A prototype of this kernel had at D = 64 635 with three, 487 with two, x 112 2 % less, and at D = 128 full 769, x 128 744. D = 192, what has ALiBi or a soft cap, and
    /// what has a mask or a bias are arithmetic and the assembler's word. Keys of a tile show in the bits of a result, so they follow from the call's dimensions and options, never from lengths.
    /// <para>With ALiBi, a soft cap or a score function, D = 64, causal, 8k keys, us (plain 981): three x 112, three x 128 and two x 128: ALiBi 1,086, 1,154 and 1,272; a bias by distance 1,146, 1,234 and 1,223; a factor by head 1,142, 1,112 and
    /// 1,206; by the option's soft cap of 2 2,963, 3,357 and 3,336. Of T5's buckets and distances in a grid all computed for each score, three spill, and are no faster: 2,308 and 1,812, two 2,217 and 1,744. Three x 96 with ALiBi 1,084.</para>
    /// <para>By a mask function, D = 64, 8k keys: two x 128 and three x 112, us: prefix 1,420 and 1,295, dilated window 601 and 644, global and local 387 and 426. Three have more rows a tile that nobody may see, and their producer,
    /// of 32 registers, spills where it reads the map.</para>
    /// <para>A mask takes some 40 KB and 128 keys at most: the bits of a lane are one word. Two tiles of a bias take what is left: in 16 bits columns come by 64, and 128 rows and keys are 32 KB; floats come by 32.</para>
    /// </remarks>
    private static readonly (bool HasMask, int BiasBytes, int KeyDim, int ValueDim, WarpgroupUse? Only, int Consumers, int Keys)[] WarpgroupTiles =
    [
        (false, 0, 64, 64, WarpgroupUse.Long, 2, 128),
        (false, 0, 64, 64, WarpgroupUse.Modified, 3, 112),
        (false, 0, 64, 64, WarpgroupUse.MaskFunction, 2, 128),
        (false, 0, 64, 64, null, 3, 128),
        (false, 0, 128, 128, WarpgroupUse.Full, 2, 176),
        (false, 0, 128, 128, null, 2, 128),
        (false, 0, 192, 128, null, 2, 128),
        (false, 0, 192, 192, null, 2, 112),
        (false, 0, 256, 256, WarpgroupUse.Modified, 2, 64),
        (false, 0, 256, 256, null, 2, 80),
        (true, 0, 128, 128, null, 2, 128),
        (true, 0, 192, 128, null, 2, 112),
        (true, 0, 192, 192, null, 2, 96),
        (true, 0, 256, 256, WarpgroupUse.Modified, 2, 48),
        (true, 0, 256, 256, null, 2, 64),
        (false, 2, 64, 64, WarpgroupUse.Modified, 2, 128),
        (false, 2, 64, 64, null, 3, 112),
        (false, 2, 128, 128, null, 2, 128),
        (false, 2, 256, 256, null, 2, 64),
        (false, 4, 64, 64, WarpgroupUse.Modified, 2, 96),
        (false, 4, 64, 64, null, 3, 96),
        (false, 4, 128, 128, null, 2, 96),
        (false, 4, 192, 192, null, 2, 64),
        (false, 4, 256, 256, null, 2, 48),
        (true, 2, 64, 64, null, 2, 128),
        (true, 2, 192, 192, null, 2, 64),
        (true, 2, 256, 256, null, 2, 48),
        (true, 4, 128, 128, null, 2, 64),
        (true, 4, 192, 192, null, 2, 48),
        (true, 4, 256, 256, null, 2, 32),
    ];

    /// <summary>
    /// Whether both forms take the call and that of warps is faster. Two warps pack a mask, 1,340 instructions a tile. 2 x 8k, 32 heads, on an H100 2,875 us for a random mask and 2,606 for one that is
    /// half empty, by warps 2,534 and 1,841. At 128 dimensions 1,331 and 1,190, by warps 2,124 and 1,461. That was with packers of 40 registers, which spilled.
    /// </summary>
    public static bool IsSlowerByWarpgroups(AttentionProblem problem) => problem.HasMask && !problem.HasBias && Math.Max(problem.KeyDim, problem.ValueDim) <= 64;

    /// <summary>The tile of a prefill by warpgroups, or null if no tile fits the dimensions or the device.</summary>
    /// <param name="keyDim">Elements of a key.</param>
    /// <param name="valueDim">Elements of a value.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="use">What the call has.</param>
    /// <param name="lookups">What scores are looked up in.</param>
    public static WarpgroupTile? Warpgroups(int keyDim, int valueDim, CudaDeviceDescription device, WarpgroupUse use, WarpgroupLookups lookups = default)
    {
        if (!HasMatrixDims(keyDim, valueDim)) return null;
        foreach ((bool hasMask, int biasBytes, int key, int value, WarpgroupUse? only, int consumers, int keys) in WarpgroupTiles)
        {
            if (lookups.HasMask != hasMask || lookups.BiasBytes != biasBytes || keyDim > key || valueDim > value || !IsFor(only, use)) continue;

            // Registers of all warpgroups together: 65,536 less what is rounded away. With 24 the producer spills, and with a mask with 40: CUDA 13 has the packers leave 96 bytes there, 12.4 none.
            (int producer, int consumer) = consumers == 3 ? (32, 160) : hasMask ? (56, 224) : (40, 232);
            for (int queryStages = 2; queryStages > 0; queryStages--)
            {
                var tile = new WarpgroupTile(consumers, keys, queryStages, use == WarpgroupUse.Full && !lookups.HasBias, producer, consumer, lookups);
                if (Fits(tile.SharedBytes(keyDim, valueDim), 1, device)) return tile;
            }
        }

        return null;
    }

    /// <summary>Whether a tile is for what a call has: with long functions one that is modified has, where there is no other.</summary>
    private static bool IsFor(WarpgroupUse? only, WarpgroupUse use) => only is null || only == use || (only == WarpgroupUse.Modified && use == WarpgroupUse.Long);

    /// <summary>What scores are looked up in.</summary>
    public static WarpgroupLookups LookupsOf(AttentionProblem problem) => new(
        problem.HasMask, problem.HasBias ? problem.BiasType.Size() : 0, problem.MaskFunction is not null, problem.ScoreFunction?.Graph.Form.RowNumbers.Length ?? 0,
        problem.HasBias && problem.BiasQueryStride == 0 && (problem.BiasHeadStride == 0 || problem.Group == 1))
    {
        Numbers = TileNumberPlaces.Of(problem.ScoreFunction?.Graph.Form, problem.Group),
    };

    /// <summary>Whether scores go through functions of the caller's.</summary>
    public static bool HasFunctions(AttentionProblem problem) => problem.ScoreFunction is not null || problem.MaskFunction is not null;

    /// <summary>What tiles are chosen by beside the dimensions.</summary>
    public static WarpgroupUse UseOf(AttentionProblem problem)
    {
        if (!problem.AlibiSlopes.IsEmpty || problem.SoftCap > 0 || problem.ScoreFunction is not null)
            return problem.MaskFunction is not null || IsLong(problem.ScoreFunction?.Graph.Form, problem.Group) ? WarpgroupUse.Long : WarpgroupUse.Modified;
        if (problem.MaskFunction is not null) return WarpgroupUse.MaskFunction;
        return problem.LeftReach < KeyRange.Unbounded || problem.RightReach < KeyRange.Unbounded ? WarpgroupUse.Masked : WarpgroupUse.Full;
    }
}

/// <summary>What a call has that its tile of a prefill by warpgroups depends on.</summary>
internal enum WarpgroupUse
{
    /// <summary>Rows see different keys.</summary>
    Masked,

    /// <summary>Rows see different keys by a mask function, which is asked while the registers of scores are free.</summary>
    MaskFunction,

    /// <summary>Every key is in sight, and scores are only scaled: no tile but an item's last one is masked, and nothing but sums is in registers.</summary>
    Full,

    /// <summary>Scores have ALiBi, a soft cap or a score function, and rows may see different keys.</summary>
    Modified,

    /// <summary>The same with a score function of many operations, or a mask function beside.</summary>
    Long,
}
