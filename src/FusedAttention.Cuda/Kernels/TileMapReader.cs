using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;
using Fields = FusedAttention.Cuda.Kernels.BlockFields<FusedAttention.Cuda.Kernels.TileMap>;

namespace FusedAttention.Cuda.Kernels;

/// <summary>A <see cref="TileMap"/> in a kernel: who writes it and who reads it.</summary>
/// <param name="k">The kernel.</param>
/// <param name="traits">What it is specialised for, a mask function among it.</param>
internal sealed class TileMapReader(PtxKernel k, in KernelTraits traits)
{
    /// <summary>No row of the item sees a key of the tile.</summary>
    public const int Hidden = 0;

    /// <summary>Some row sees some key.</summary>
    public const int Seen = 1;

    /// <summary>The function keeps every key of the tile for every row that sees it by position.</summary>
    public const int Kept = 2;

    private readonly int _at = FunctionBlock.Offset + FunctionBlock.MapBehind(traits);

    /// <summary>Whether key/value heads have rows of their own.</summary>
    public bool IsByHead { get; } = HasHeads(traits);

    public I32 Tiles => k.Parameter<I32>(_at + Fields.OffsetOf(ref Fields.Block.Tiles));

    public I32 Blocks => k.Parameter<I32>(_at + Fields.OffsetOf(ref Fields.Block.Blocks));

    /// <summary>Whether key/value heads have rows of their own: the function asks for the head.</summary>
    public static bool HasHeads(in KernelTraits traits) => traits.Keep!.Has(ScoreOperation.Head);

    /// <summary>Goes down to the next tile of which something is seen: 32 tiles are looked at together, a lane each.</summary>
    /// <param name="row">Of the map.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="tile">The first tile that is looked at; becomes that one, or one below <paramref name="first"/> where there is none.</param>
    /// <param name="first">The last one that is looked at; not negative.</param>
    /// <param name="state">Receives what the map says of it; <see cref="Hidden"/> where there is none.</param>
    public void FindSeen(Global row, I32 lane, I32 tile, I32 first, I32 state)
    {
        const int Lanes = 32;
        state.Set(Hidden);
        k.While("hidden_tiles", () => (tile >= first) & state.Is(Hidden), () =>
        {
            I32 at = tile - lane, own = k.Variable("own_state", (I32)Hidden);
            k.Where(at >= first, () => k.LoadByte(own, row + at.Widen()));
            I32 nearest = k.Variable("nearest", I32.Select(own.IsNot(Hidden), lane, Lanes));
            for (int bit = 1; bit < Lanes; bit *= 2) nearest.Set(I32.Min(nearest, k.ShuffleXor(nearest, bit)));
            state.Set(k.ShuffleFrom(own, nearest & (Lanes - 1)));
            tile.Set(tile - nearest);
        });
    }

    /// <summary>A row of the map.</summary>
    /// <param name="number">Of the item, or with heads that of the item among all work.</param>
    public Global Row(I32 number) => new Global(k.Parameter<I64>(_at + Fields.OffsetOf(ref Fields.Block.Address))) + I64.Product(number, Tiles);
}
