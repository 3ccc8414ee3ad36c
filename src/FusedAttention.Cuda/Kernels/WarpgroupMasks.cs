using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Masks for a warpgroup that computes: a lane has a word for each of its two rows, a bit for each of its keys of the tile, and tests them row after row, since the assembler then moves seven of them into predicates at once.
/// </summary>
internal sealed class WarpgroupMasks
{
    private readonly PtxKernel _k;
    private readonly WarpgroupLookupMemory _places;
    private readonly WarpgroupSeenTiles _tiles;

    private readonly I32 _rowOfLane;
    private readonly I32 _lane;
    private readonly I32[] _bits;

    /// <param name="k">The kernel.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="rowOfLane">The lane's first row, of the block's.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpgroupMasks(PtxKernel k, WarpgroupMemory memory, in WarpgroupTile tile, I32 rowOfLane, I32 lane)
    {
        (_k, _places, _tiles) = (k, memory.Lookups!, new(k, memory, tile));
        (_rowOfLane, _lane) = (rowOfLane, lane);
        _bits = k.Registers<I32>("mask", 2);
    }

    /// <summary>Waits for the next tile; its first key, negative if there is none.</summary>
    public I32 Next(StageRing keys) => _tiles.Next(keys);

    /// <summary>The stage of that tile's mask.</summary>
    public I32 Stage(StageRing keys) => _tiles.MaskStage(keys);

    /// <summary>Takes the bits of that tile: those of the lane's first row, and of the one eight rows further on.</summary>
    public void Take(StageRing keys)
    {
        Shared bits = _places.Mask(Stage(keys)) + ((_rowOfLane << 4) + ((_lane & 3) << 2));
        for (int r = 0; r < _bits.Length; r++) _k.Load(_bits[r], bits + (r * 8 * WarpgroupLookups.MaskBytesOfRow));
    }

    /// <summary>Whether a row sees a key, by its distance from the lane's first.</summary>
    /// <param name="row">0 or 1, of the lane's.</param>
    public Func<int, Predicate> Sees(int row) => column => (_bits[row] & (1 << ((column / 8 * 2) + (column % 8)))).IsNot(0);

    /// <summary>The warp is done with the tile. (Which stage its mask was in is asked again: at D = 64 there is no register for it.)</summary>
    public void Release(StageRing keys)
    {
        I32 stage = Stage(keys);
        _k.Where(_lane.Is(0), () => _k.Arrive(_places.MaskEmpty + (stage << 3)));
    }
}
