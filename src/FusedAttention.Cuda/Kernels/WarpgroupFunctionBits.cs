using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// The bits of a mask function: each lane asks for the keys whose scores it will have, once a tile, before the tile's products; where the <see cref="TileMap"/> says that all are kept, for none.
/// </summary>
/// <remarks>Asked for each score, in the text of the weights, it was asked up to three times a tile, and the text was there as often.</remarks>
internal sealed class WarpgroupFunctionBits : WarpgroupTileBits
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupTile _tile;
    private readonly I32 _lane;
    private Func<RowReader[]> _rows = static () => [];

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpgroupFunctionBits(PtxKernel k, CallReader call, WarpgroupMemory memory, in WarpgroupTile tile, I32 lane)
        : base(k, memory, tile) => (_k, _call, _tile, _lane) = (k, call, tile, lane);

    public override void Begin(Func<RowReader[]> rows) => _rows = rows;

    public override void Take(StageRing keys, I32 key)
    {
        I32 first = key + ((_lane & 3) << 1);
        RowReader[] rows = _rows();
        foreach (I32 bits in Bits) bits.Set(-1);
        _k.If(_k.Any(Tiles.StateOf(keys).IsNot(TileMapReader.Kept)), () =>
        {
            for (int r = 0; r < Bits.Length; r++)
            {
                var function = new RowFunction(FunctionBlock.OfMask(_k, _call.Traits), rows[r], first);
                I32 kept = 0;
                for (int i = 0; i < _tile.Keys / 4; i++)
                {
                    int column = (i / 2 * 8) + (i & 1);
                    kept |= I32.Select(function.Keeps(column), 1 << BitOf(column), 0);
                }

                Bits[r].Set(kept);
            }
        });
        for (int r = 0; r < Bits.Length; r++) Bits[r].Set(Bits[r] & ReachWords.Of(rows[r].Start - first, rows[r].End - first));
    }
}
