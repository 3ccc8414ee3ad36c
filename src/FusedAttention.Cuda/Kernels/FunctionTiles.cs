using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// What a mask function keeps of the tiles of a prefill, asked one tile ahead: a tile of which it keeps nothing is not read. Each lane asks for the keys whose scores it will have, which are 32 of its two rows, so all that is
/// known of a tile is a bit each in one register, and no key is asked for twice.
/// </summary>
internal sealed class FunctionTiles
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly PrefillTile _tile;
    private readonly I32 _next;
    private readonly I32 _current;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="tile">Its sizes: 16 rows of a warp.</param>
    public FunctionTiles(PtxKernel k, CallReader call, in PrefillTile tile)
    {
        if (tile.RowsOfWarp != 16 || 2 * KeysOfLane(tile) > 32) throw new ArgumentException($"A lane has more than 32 scores of a tile: {tile}.", nameof(tile));
        (_k, _call, _tile) = (k, call, tile);
        _next = k.Variable("next_kept", (I32)0);
        _current = k.Variable("kept", (I32)0);
    }

    /// <summary>Asks for a tile, which is the next one that is worked on.</summary>
    /// <param name="rows">The lane's rows.</param>
    /// <param name="key">The tile's first key; if it is below <paramref name="first"/>, there is no such tile and nothing is kept.</param>
    /// <param name="first">Of the first tile.</param>
    /// <param name="firstOfLane">The lane's first key of the tile.</param>
    /// <returns>Whether one of the lane's keys is kept.</returns>
    public Predicate Look(RowReader[] rows, I32 key, I32 first, I32 firstOfLane)
    {
        _next.Set(0);
        _k.If(key >= first, () =>
        {
            I32 bits = 0;
            for (int r = 0; r < rows.Length; r++)
            {
                RowFunction function = RowFunctions.Of(_k, _call, rows[r], firstOfLane)!.Keep!;
                for (int i = 0; i < KeysOfLane(_tile); i++) bits |= I32.Select(function.Keeps((i / 2 * 8) + (i & 1)), 1 << BitOf(r, i), 0);
            }

            _next.Set(bits);
        });
        return _next.IsNot(0);
    }

    /// <summary>The next tile is the one that is worked on.</summary>
    public void Advance() => _current.Set(_next);

    /// <summary>Whether a row of the warp sees a key of the tile that is worked on.</summary>
    public Predicate WarpSees() => _k.Any(_current.IsNot(0));

    /// <summary>Whether the lane's row number <paramref name="row"/> sees keys, by their distance from the lane's first key of the tile.</summary>
    public Func<int, Predicate> Sees(int row) => column => (_current & (1 << BitOf(row, (column / 8 * 2) + (column & 1)))).IsNot(0);

    private static int KeysOfLane(in PrefillTile tile) => tile.Keys / 4;

    private int BitOf(int row, int index) => (row * KeysOfLane(_tile)) + index;
}
