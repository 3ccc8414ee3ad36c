using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// With a mask or a mask function, the tiles of an item are those of which some row of the block sees a key: the warp that copies looks at what was packed or mapped, passes over the others, and says with each tile of keys which one it is. A tile that is
/// none ends the item.
/// </summary>
internal sealed class WarpgroupSeenTiles
{
    private readonly PtxKernel _k;
    private readonly WarpgroupMemory _memory;
    private readonly WarpgroupLookupMemory _places;
    private readonly int _keys;
    private readonly bool _hasBias;

    public WarpgroupSeenTiles(PtxKernel k, WarpgroupMemory memory, in WarpgroupTile tile) => (_k, _memory, _places, _keys, _hasBias) = (k, memory, memory.Lookups!, tile.Keys, tile.Lookups.HasBias);

    /// <summary>The copying side, a warp: goes through the tiles of an item.</summary>
    /// <param name="lane">Of the warp.</param>
    /// <param name="isElected">The lane that copies.</param>
    /// <param name="masks">The ring of packed tiles.</param>
    /// <param name="keys">The ring of keys.</param>
    /// <param name="first">The item's first tile.</param>
    /// <param name="last">Its last one.</param>
    /// <param name="loadKeys">Copies a tile of keys.</param>
    /// <param name="loadQueries">Copies the queries: behind the first keys.</param>
    public void Load(I32 lane, Predicate isElected, StageRing masks, StageRing keys, I32 first, I32 last, Action<I32> loadKeys, Action loadQueries)
    {
        I32 scan = _k.Variable("scan_key", last), found = _k.Variable("found_key", (I32)0), stage = _k.Variable("found_stage", (I32)0);
        Predicate isFirst = _k.Variable("is_first_tile", value: true);
        _k.Repeat("load", () =>
        {
            found.Set(-1);
            _k.While("hidden_tile", () => (scan >= first) & (found < 0), () =>
            {
                _k.WaitForPhase(WarpgroupMemory.Of(_places.MaskFull, masks), masks.Parity);
                I32 biasStage = BiasStage(masks.Index);
                if (_hasBias) _k.WaitForPhase(_places.BiasFull + (biasStage << 3), (masks.Index >>> 1) & 1);
                I32 flag = _k.Variable("flag", (I32)0);
                _k.Where(lane < _places.Parts, () => _k.Load(flag, _places.Flags(masks.Index) + (lane << 2)));
                _k.If(_k.Any(flag.IsNot(0)), () =>
                {
                    found.Set(scan);
                    stage.Set(masks.Index);
                }, () =>
                {
                    _k.WarpBarrier();
                    _k.Where(lane < _places.Computing, () => _k.Arrive(WarpgroupMemory.Of(_places.MaskEmpty, masks)));
                    if (_hasBias) _k.Where(lane < _places.Computing, () => _k.Arrive(_places.BiasEmpty + (biasStage << 3)));
                });
                scan.Add(-_keys);
                masks.Advance();
            });
            return Announce(isElected, keys, found, stage, isFirst, loadKeys, loadQueries);
        });
    }

    /// <summary>The same by a map.</summary>
    /// <param name="call">The call.</param>
    /// <param name="slot">The item.</param>
    /// <param name="head">Its head.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="isElected">The lane that copies.</param>
    /// <param name="keys">The ring of keys.</param>
    /// <param name="first">The item's first tile.</param>
    /// <param name="last">Its last one; below the first one where there is none.</param>
    /// <param name="loadKeys">Copies a tile of keys.</param>
    /// <param name="loadQueries">Copies the queries: behind the first keys.</param>
    public void Load(CallReader call, WorkSlot slot, I32 head, I32 lane, Predicate isElected, StageRing keys, I32 first, I32 last, Action<I32> loadKeys, Action loadQueries)
    {
        Predicate isFirst = _k.Variable("is_first_tile", value: true);
        ForEach("load", call, slot, head, lane, first, last, (found, state) => Announce(isElected, keys, found, state, isFirst, loadKeys, loadQueries));
    }

    /// <summary>Goes through the tiles of an item that a map has as seen, a warp together.</summary>
    /// <param name="name">In the text.</param>
    /// <param name="call">The call.</param>
    /// <param name="slot">The item.</param>
    /// <param name="head">Its head.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="first">The item's first tile.</param>
    /// <param name="last">Its last one; below the first one where there is none.</param>
    /// <param name="visit">Gets a tile's first key, negative behind the last one, and what the map says of it; returns whether there may be more.</param>
    public void ForEach(string name, CallReader call, WorkSlot slot, I32 head, I32 lane, I32 first, I32 last, Func<I32, I32, Predicate> visit)
    {
        var map = new TileMapReader(_k, call.Traits);
        Global row = map.Row(map.IsByHead ? slot.Number : slot.Number - (head * new WarpgroupParameters(_k).Items));
        I32 firstTile = I32.Quotient(first, _keys).As("first_of_map"), tile = _k.Variable("map_tile", I32.Quotient(I32.Max(last, 0), _keys)), state = _k.Variable("map_state", (I32)0);
        tile.Set(I32.Select(last < first, firstTile - 1, tile));
        _k.Repeat(name, () =>
        {
            map.FindSeen(row, lane, tile, firstTile, state);
            I32 found = I32.Select(tile >= firstTile, tile * _keys, -1).As("found_key");
            tile.Add(-1);
            return visit(found, state);
        });
    }

    /// <summary>The others' side: waits for the next tile.</summary>
    /// <returns>Its first key, negative if there is none.</returns>
    public I32 Next(StageRing keys)
    {
        _k.WaitForPhase(WarpgroupMemory.Of(_memory.KeysFull, keys), keys.Parity);
        return _k.ShuffleFrom(_k.Load<I32>(TileOf(keys)), 0);
    }

    /// <summary>The others' side: the stage of that tile's mask, or what the map says of it.</summary>
    public I32 StateOf(StageRing keys) => _k.Load<I32>(TileOf(keys) + sizeof(int));

    /// <summary>Where a tile's bias is whose mask is in a stage: both go round together, twice as often.</summary>
    public static I32 BiasStage(I32 maskStage) => maskStage & (WarpgroupLookups.BiasStages - 1);

    /// <summary>Says which tile comes next, and copies it. The first one brings the queries along.</summary>
    /// <returns>Whether there was one.</returns>
    private Predicate Announce(Predicate isElected, StageRing keys, I32 found, I32 state, Predicate isFirst, Action<I32> loadKeys, Action loadQueries)
    {
        _k.WaitForPhase(WarpgroupMemory.Of(_memory.KeysEmpty, keys), keys.Parity);
        _k.Where(isElected, () => _k.StoreVector(TileOf(keys), found, state));
        _k.If(found >= 0, () => loadKeys(found), () =>
        {
            _k.Where(isElected, () => _k.Arrive(WarpgroupMemory.Of(_memory.KeysFull, keys)));
            keys.Advance();
        });
        _k.If(isFirst, loadQueries);
        isFirst.Set(value: false);
        return found >= 0;
    }

    private Shared TileOf(StageRing keys) => _places.Tiles + (keys.Index << 3);
}
