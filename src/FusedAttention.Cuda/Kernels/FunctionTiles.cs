using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// What a mask function keeps of the tiles of a prefill: tiles of which it keeps nothing are passed over by the <see cref="TileMap"/>. Of the others each lane asks one tile ahead for the keys whose scores it will have, which
/// are 16 of each of its two or four rows, so all that is known of a tile is a bit each in one or two registers; where the map says that all are kept it asks for none.
/// </summary>
internal sealed class FunctionTiles
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly PrefillTile _tile;
    private readonly I32[] _next;
    private readonly I32[] _current;
    private readonly I32 _state;
    private readonly TileMapReader _map;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="tile">Its sizes.</param>
    public FunctionTiles(PtxKernel k, CallReader call, in PrefillTile tile)
    {
        (_k, _call, _tile) = (k, call, tile);
        int words = Math.Max(tile.RowsOfWarp / 8 * KeysOfLane(tile) / 32, 1);
        _next = k.Registers<I32>("next_kept", words);
        _current = k.Registers<I32>("kept", words);
        foreach (I32 word in (I32[])[.. _next, .. _current]) word.Set(0);
        _state = k.Variable("map_state", (I32)0);
        _map = new(k, call.Traits);
    }

    /// <summary>Asks for the tile that was found, which is the next one that is worked on; if there was none, nothing is kept.</summary>
    /// <param name="rows">The lane's rows.</param>
    /// <param name="firstOfLane">The lane's first key of the tile.</param>
    public void Look(RowReader[] rows, I32 firstOfLane)
    {
        foreach (I32 word in _next) word.Set(I32.Select(_state.Is(TileMapReader.Kept), -1, 0));
        _k.If(_state.Is(TileMapReader.Seen), () =>
        {
            var bits = new I32[_next.Length];
            Array.Fill<I32>(bits, 0);
            for (int r = 0; r < rows.Length; r++)
            {
                RowFunction function = RowFunctions.Of(_k, _call, rows[r], firstOfLane)!.Keep!;
                for (int i = 0; i < KeysOfLane(_tile); i++) bits[WordOf(r)] |= I32.Select(function.Keeps((i / 2 * 8) + (i & 1)), 1 << BitOf(r, i), 0);
            }

            for (int word = 0; word < bits.Length; word++) _next[word].Set(bits[word]);
        });
    }

    /// <summary>Goes down to the next tile that some row of the block sees; in front of the first one if there is none.</summary>
    /// <param name="row">The item's row of the map.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="key">The first key of the tile that is looked at first, and then of the one that is found.</param>
    /// <param name="first">Of the first tile.</param>
    public void Find(Global row, I32 lane, I32 key, I32 first)
    {
        int shift = int.TrailingZeroCount(_tile.Keys);
        I32 tile = _k.Variable("map_tile", key >> shift);
        _map.FindSeen(row, lane, tile, first >>> shift, _state);
        key.Set(tile << shift);
    }

    /// <summary>The map's row of an item.</summary>
    public Global RowOf(WorkPlace place) => _map.Row(_map.IsByHead ? I32.MultiplyAdd(place.Head, _k.BlocksX(), _k.BlockX()) : _k.BlockX());

    /// <summary>The next tile is the one that is worked on.</summary>
    public void Advance()
    {
        for (int word = 0; word < _next.Length; word++) _current[word].Set(_next[word]);
    }

    /// <summary>Whether a row of the warp sees a key of the tile that is worked on.</summary>
    public Predicate WarpSees() => _k.Any(_current.Aggregate(static (a, b) => a | b).IsNot(0));

    /// <summary>Whether the lane's row number <paramref name="row"/> sees keys, by their distance from the lane's first key of the tile.</summary>
    public Func<int, Predicate> Sees(int row) => column => (_current[WordOf(row)] & (1 << BitOf(row, (column / 8 * 2) + (column & 1)))).IsNot(0);

    private static int KeysOfLane(in PrefillTile tile) => tile.Keys / 4;

    /// <summary>Rows follow each other in words: two of 16 keys, or more of fewer.</summary>
    private int WordOf(int row) => row * KeysOfLane(_tile) / 32;

    private int BitOf(int row, int index) => ((row * KeysOfLane(_tile)) + index) % 32;
}
