using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The warp that copies queries and keys.</summary>
internal sealed class WarpgroupKeyLoads : WarpgroupLoads
{
    private readonly I64 _queryMap;
    private readonly I64 _keyMap;
    private readonly StageRing _queries;
    private readonly StageRing _keys;

    /// <summary>Null without a mask.</summary>
    private readonly StageRing? _masks;

    /// <inheritdoc cref="WarpgroupLoads(PtxKernel, CallReader, WarpgroupMemory, WarpgroupTile, I32)"/>
    public WarpgroupKeyLoads(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane)
        : base(k, call, memory, tile, lane)
    {
        (_queryMap, _keyMap) = (Fetched(Parameters.QueryMap, "query_map"), Fetched(Parameters.KeyMap, "key_map"));
        _queries = new(k, "queries", tile.QueryStages, parity: 1);
        _keys = new(k, "keys", WarpgroupTile.Stages, parity: 1);
        if (tile.Lookups.HasMask) _masks = new(k, "packed", WarpgroupLookups.MaskStages, parity: 0);
    }

    /// <summary>Two tiles before an item ends: late, so that the last items go to whom they find idle, and early enough for the next one's first copies.</summary>
    protected override bool ChoosesNext => true;

    /// <summary>Keys of the last tile come first: their stage is free before that of the queries.</summary>
    protected override void Load(WorkSlot slot)
    {
        ItemReader item = slot.Item;
        SequenceReader sequence = slot.Sequence;
        I32 head = slot.Head.As("load_head");
        I32 first = FirstTile(item, Tile.Keys), key = Kernel.Variable("load_key", LastTile(item, Tile.Keys));
        BoxSource keys = KeysOf(sequence, item, head);
        if (_masks is not null)
        {
            new WarpgroupSeenTiles(Kernel, Memory, Tile).Load(Lane, IsElected, _masks, _keys, first, key, tile => LoadKeys(keys, tile), () => LoadQueries(sequence, item, head));
            return;
        }

        if (Tile.Lookups.HasTileMap)
        {
            new WarpgroupSeenTiles(Kernel, Memory, Tile).Load(Call, slot, head, Lane, IsElected, _keys, first, key, tile => LoadKeys(keys, tile), () => LoadQueries(sequence, item, head));
            return;
        }

        Kernel.If(key >= first, () => LoadKeys(keys, key));
        LoadQueries(sequence, item, head);
        key.Add(-Tile.Keys);
        Kernel.While("load", () => key >= first, () =>
        {
            LoadKeys(keys, key);
            key.Add(-Tile.Keys);
        });
    }

    private void LoadQueries(SequenceReader sequence, ItemReader item, I32 head)
    {
        I32 group = Call.Group, query = Call.QueryOf(item.FirstRow);
        I32 isBatched = Parameters.QueryBatches;
        I32 token = query + TileBoxes.TokenOf(sequence.QueryStart, Call.QueryTokenStride, isBatched), batch = item.Sequence * isBatched;
        Kernel.WaitForPhase(WarpgroupMemory.Of(Memory.QueryEmpty, _queries), _queries.Parity);
        Shared to = Memory.Queries + (_queries.Index * Memory.QueryRows.Bytes), full = WarpgroupMemory.Of(Memory.QueryFull, _queries);
        Kernel.If(IsElected, () =>
        {
            Kernel.ArriveExpecting(full, Parameters.QueryRows * (Memory.QueryRows.Boxes * BoxedRows.RowBytes));
            for (int box = 0; box < Memory.QueryRows.Boxes; box++)
                Kernel.CopyBox(to + (box * Memory.QueryRows.BoxBytes), new(_queryMap, box * BoxedRows.BoxColumns, head * group, token, batch), full);
        });
        _queries.Advance();
    }

    private void LoadKeys(BoxSource source, I32 key)
    {
        I32? block = Boxes.BlockAhead(source, key);
        Kernel.WaitForPhase(WarpgroupMemory.Of(Memory.KeysEmpty, _keys), _keys.Parity);
        Shared to = Memory.Keys + (_keys.Index * Memory.KeyRows.Bytes);
        Boxes.CopyTile(source, Memory.KeyRows, to, key, WarpgroupMemory.Of(Memory.KeysFull, _keys), block);
        _keys.Advance();
    }

    private BoxSource KeysOf(SequenceReader sequence, ItemReader item, I32 head)
    {
        if (Call.Traits.BlockSize > 0) return PagesOf(sequence, item, head, _keyMap);
        I32 isBatched = Parameters.KeyBatches;
        return new(_keyMap, head, TileBoxes.TokenOf(sequence.KeyStart, Call.KeyTokenStride, isBatched).As("key_token"), item.Sequence * isBatched, 0, 0, 0);
    }
}
