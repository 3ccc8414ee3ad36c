using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A warp that computes what tiles have of the score function, ahead of who computes scores: 255 look-ups for the 16,384 scores of 128 rows and keys, by a warp that has nothing else to do. It is the second one who brings a tile's keys, so
/// nobody waits for it apart.
/// </summary>
internal sealed class WarpgroupNumberWriter
{
    private const int Lanes = 32;

    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupMemory _memory;
    private readonly WarpgroupTile _tile;
    private readonly I32 _lane;
    private readonly StageRing _keys;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpgroupNumberWriter(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane)
    {
        (_k, _call, _memory, _tile, _lane) = (k, call, memory, tile, lane);
        _keys = new(k, "numbers", WarpgroupTile.Stages, parity: 1);
    }

    /// <summary>Works on items until there are none left.</summary>
    public void WriteItems(WarpgroupWork work) => work.ForEachItem("numbers", _lane, WriteItem);

    private void WriteItem(WorkSlot slot, I32 head)
    {
        ItemReader item = slot.Item;
        I32 first = _k.ShuffleFrom(WarpgroupLoads.FirstTile(item, _tile.Keys), 0).As("numbers_first"), last = _k.ShuffleFrom(WarpgroupLoads.LastTile(item, _tile.Keys), 0);
        var writer = new TileNumberWriter(_k, _call, _tile.Lookups.Numbers, new(_k, _call, item, head, slot.Sequence), _tile.Rows, _tile.Keys, _lane, Lanes);
        if (_tile.Lookups.HasTileMap)
        {
            new WarpgroupSeenTiles(_k, _memory, _tile).ForEach("numbers_tile", _call, slot, head, _lane, first, last, (found, _) =>
            {
                Write(writer, found);
                return found >= 0;
            });
            return;
        }

        I32 key = _k.Variable("numbers_key", last);
        _k.While("numbers_tile", () => key >= first, () =>
        {
            Write(writer, key);
            key.Add(-_tile.Keys);
        });
    }

    /// <summary>One tile; where it is none, that ends the item, there is nothing but its arrival.</summary>
    private void Write(TileNumberWriter writer, I32 key)
    {
        _k.WaitForPhase(WarpgroupMemory.Of(_memory.KeysEmpty, _keys), _keys.Parity);
        Shared to = _memory.Lookups!.Numbers(_keys.Index);
        if (_tile.Lookups.HasTileMap) _k.If(key >= 0, () => writer.Leave(key, to));
        else writer.Leave(key, to);
        _k.WarpBarrier();
        Shared full = WarpgroupMemory.Of(_memory.KeysFull, _keys);
        _k.Where(_lane.Is(0), () => _k.Arrive(full));
        _keys.Advance();
    }
}
