using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The bits of a boolean mask, which other warps have packed.</summary>
internal sealed class WarpgroupMasks : WarpgroupTileBits
{
    private readonly PtxKernel _k;
    private readonly WarpgroupLookupMemory _places;

    private readonly I32 _rowOfLane;
    private readonly I32 _lane;

    /// <param name="k">The kernel.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="rowOfLane">The lane's first row, of the block's.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpgroupMasks(PtxKernel k, WarpgroupMemory memory, in WarpgroupTile tile, I32 rowOfLane, I32 lane)
        : base(k, memory, tile) => (_k, _places, _rowOfLane, _lane) = (k, memory.Lookups!, rowOfLane, lane);

    public override I32? Stage(StageRing keys) => Tiles.StateOf(keys);

    public override void Take(StageRing keys, I32 key)
    {
        Shared bits = _places.Mask(Tiles.StateOf(keys)) + ((_rowOfLane << 4) + ((_lane & 3) << 2));
        for (int r = 0; r < Bits.Length; r++) _k.Load(Bits[r], bits + (r * 8 * WarpgroupLookups.MaskBytesOfRow));
    }

    /// <summary>The warp is done with the tile. (Which stage its mask was in is asked again: at D = 64 there is no register for it.)</summary>
    public override void Release(StageRing keys)
    {
        I32 stage = Tiles.StateOf(keys);
        _k.Where(_lane.Is(0), () => _k.Arrive(_places.MaskEmpty + (stage << 3)));
    }
}
