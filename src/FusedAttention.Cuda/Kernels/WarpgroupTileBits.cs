using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// What a mask or a mask function lets a warpgroup see of a tile, for a lane that computes: a word for each of its two rows, a bit for each of its keys of the tile. They are tested row after row, since the assembler then
/// moves seven of them into predicates at once.
/// </summary>
internal abstract class WarpgroupTileBits
{
    /// <param name="k">The kernel.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    protected WarpgroupTileBits(PtxKernel k, WarpgroupMemory memory, in WarpgroupTile tile) => (Tiles, Bits) = (new(k, memory, tile), k.Registers<I32>("mask", 2));

    /// <summary>Which tiles there are.</summary>
    protected WarpgroupSeenTiles Tiles { get; }

    /// <summary>Those of the lane's first row, and of the one eight rows further on.</summary>
    protected I32[] Bits { get; }

    /// <summary>Waits for the next tile; its first key, negative if there is none.</summary>
    public I32 Next(StageRing keys) => Tiles.Next(keys);

    /// <summary>The stage of that tile's mask; null where it has none.</summary>
    public virtual I32? Stage(StageRing keys) => null;

    /// <summary>An item begins.</summary>
    /// <param name="rows">Asks for the lane's rows, which have no registers from one tile to the next.</param>
    public virtual void Begin(Func<RowReader[]> rows)
    {
    }

    /// <summary>Takes or makes the bits of that tile.</summary>
    /// <param name="keys">The ring of keys.</param>
    /// <param name="key">The tile's first key.</param>
    public abstract void Take(StageRing keys, I32 key);

    /// <summary>Whether a row sees a key, by its distance from the lane's first.</summary>
    /// <param name="row">0 or 1, of the lane's.</param>
    public Func<int, Predicate> Sees(int row) => column => (Bits[row] & (1 << BitOf(column))).IsNot(0);

    /// <summary>The warp is done with the tile.</summary>
    public virtual void Release(StageRing keys)
    {
    }

    /// <summary>A lane has two of every eight columns.</summary>
    protected static int BitOf(int column) => (column / 8 * 2) + (column % 8);
}
