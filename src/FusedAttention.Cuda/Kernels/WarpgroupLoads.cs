using System.Numerics;
using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// The producer's copies: boxes of queries, keys and values, from device to shared memory. Keys that no row may see arrive too where a box holds them, and are hidden by their scores; their values, which a
/// weight of zero would not hide if they are not finite, are zeroed first where they are no tokens of the sequence at all.
/// </summary>
internal sealed class WarpgroupLoads
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupMemory _memory;
    private readonly WarpgroupTile _tile;
    private readonly WarpgroupParameters _parameters;
    private readonly I32 _lane;
    private readonly Predicate _isElected;
    private readonly I64 _queryMap;
    private readonly I64 _keyMap;
    private readonly I64 _valueMap;
    private readonly StageRing _queries;
    private readonly StageRing _keys;
    private readonly StageRing _values;
    private readonly I32 _rawParity;

    /// <summary>Null without a mask.</summary>
    private readonly StageRing? _masks;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where to.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the producer's warp.</param>
    public WarpgroupLoads(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane)
    {
        (_k, _call, _memory, _tile, _lane) = (k, call, memory, tile, lane);
        _parameters = new(k);
        (_isElected, _) = k.ElectLane();
        (_queryMap, _keyMap, _valueMap) = (_parameters.QueryMap.As("query_map"), _parameters.KeyMap.As("key_map"), _parameters.ValueMap.As("value_map"));
        foreach (I64 map in (I64[])[_queryMap, _keyMap, _valueMap]) k.Where(_isElected, () => k.PrefetchMap(map));
        _queries = new(k, "queries", 1, parity: 1);
        _keys = new(k, "keys", WarpgroupTile.Stages, parity: 1);
        _values = new(k, "values", WarpgroupTile.Stages, parity: 1);
        _rawParity = k.Variable("raw_parity", (I32)0);
        if (tile.Lookups.HasMask) _masks = new(k, "packed", WarpgroupLookups.MaskStages, parity: 0);
    }

    /// <summary>Rows of a box of a paged cache: as many tokens as lie in one block and in one tile.</summary>
    public static int BoxRows(int blockSize, int keys) => blockSize == 0 ? keys : (int)BigInteger.GreatestCommonDivisor(blockSize, keys);

    /// <summary>All copies of an item: keys of the last tile, queries, then from the last tile to the first the keys of the one below and its own values, as they will be needed.</summary>
    public void Load(WorkSlot slot)
    {
        ItemReader item = slot.Item;
        SequenceReader sequence = slot.Sequence;
        I32 head = slot.Head.As("load_head");
        I32 first = FirstTile(item, _tile.Keys), last = LastTile(item, _tile.Keys);
        Source keys = KeysOf(sequence, item, head), values = ValuesOf(sequence, item, head);
        Predicate isCareful = slot.Careful.IsNot(0);
        var specials = new SpecialValues(_k, _call, slot.Specials, _lane);
        if (_masks is not null)
        {
            new WarpgroupSeenTiles(_k, _memory, _tile).Load(
                _lane, _isElected, _masks, _keys, first, last, tile => LoadKeys(keys, tile), () => LoadQueries(sequence, item, head), tile => LoadValues(values, tile, isCareful, specials));
            return;
        }

        I32 key = _k.Variable("load_key", last);
        _k.If(key >= first, () => LoadKeys(keys, key));
        LoadQueries(sequence, item, head);
        _k.While("load", () => key >= first, () =>
        {
            I32 below = key - _tile.Keys;
            _k.If(below >= first, () => LoadKeys(keys, below));
            LoadValues(values, key, isCareful, specials);
            key.Set(below);
        });
    }

    /// <summary>The tile with the item's first key; tiles begin at multiples of their length.</summary>
    public static I32 FirstTile(ItemReader item, int keys) => I32.Quotient(item.FirstKey, keys) * keys;

    /// <summary>The tile with its last key; below the first one where there is none.</summary>
    public static I32 LastTile(ItemReader item, int keys) => (I32.Quotient(item.EndKey + (keys - 1), keys) * keys) - keys;

    private void LoadQueries(SequenceReader sequence, ItemReader item, I32 head)
    {
        I32 group = _call.Group, query = I32.Quotient(item.FirstRow, group);
        I32 isBatched = _parameters.QueryBatches;
        I32 token = query + TokenOf(sequence.QueryStart, _call.QueryTokenStride, isBatched), batch = item.Sequence * isBatched;
        _k.WaitForPhase(_memory.QueryEmpty, _queries.Parity);
        _k.If(_isElected, () =>
        {
            _k.ArriveExpecting(_memory.QueryFull, _parameters.QueryRows * (_memory.QueryRows.Boxes * BoxedRows.RowBytes));
            for (int box = 0; box < _memory.QueryRows.Boxes; box++)
                _k.CopyBox(_memory.Queries + (box * _memory.QueryRows.BoxBytes), new(_queryMap, box * BoxedRows.BoxColumns, head * group, token, batch), _memory.QueryFull);
        });
        _queries.Advance();
    }

    private void LoadKeys(Source source, I32 key)
    {
        _k.WaitForPhase(WarpgroupMemory.Of(_memory.KeysEmpty, _keys), _keys.Parity);
        Shared to = _memory.Keys + (_keys.Index * _memory.KeyRows.Bytes);
        CopyTile(source, _memory.KeyRows, to, key, WarpgroupMemory.Of(_memory.KeysFull, _keys));
        _keys.Advance();
    }

    private void LoadValues(Source source, I32 key, Predicate isCareful, SpecialValues specials)
    {
        _k.WaitForPhase(WarpgroupMemory.Of(_memory.ValuesEmpty, _values), _values.Parity);
        Shared to = new((_memory.Values + (_values.Index * _memory.ValueRows.Bytes)).ToI32()), full = new(WarpgroupMemory.Of(_memory.ValuesFull, _values).ToI32());
        Predicate isOutside = (key < source.FirstValid) | (key + _tile.Keys > source.EndValid);
        Predicate isRaw = isOutside | isCareful;
        CopyTile(source, _memory.ValueRows, to, key, new(I32.Select(isRaw, _memory.ValuesRaw.ToI32(), full.ToI32())));
        _k.If(isRaw, () =>
        {
            _k.WaitForPhase(_memory.ValuesRaw, _rawParity);
            _rawParity.Set(_rawParity ^ 1);
            _k.If(isOutside, () => ClearRows(to, key, source));
            _k.WarpBarrier();
            _k.If(isCareful, () =>
            {
                for (int box = 0; box < _memory.ValueRows.Boxes; box++)
                    specials.Clean(to + (box * _memory.ValueRows.BoxBytes), BoxedRows.BoxColumns / SharedRows.Chunk, BoxedRows.RowBytes, _tile.Keys, key, 32, _lane);
            });
            _k.FenceAsyncProxy();
            _k.WarpBarrier();
            _k.Where(_isElected, () => _k.Arrive(full));
        });
        _values.Advance();
    }

    /// <summary>Zeros in rows that are no tokens of the sequence.</summary>
    private void ClearRows(Shared tile, I32 key, Source source) => _k.For("clear_row", _lane, _tile.Keys, 32, row =>
    {
        I32 at = key + row;
        _k.If((at < source.FirstValid) | (at >= source.EndValid), () =>
        {
            I32 zero = I32.InRegister(_k, 0);
            for (int box = 0; box < _memory.ValueRows.Boxes; box++)
            {
                Shared first = tile + (row << 7) + (box * _memory.ValueRows.BoxBytes);
                for (int chunk = 0; chunk < BoxedRows.RowBytes; chunk += 16) _k.StoreVector(first + chunk, zero, zero, zero, zero);
            }
        });
    });

    private void CopyTile(Source source, BoxedRows layout, Shared to, I32 key, Shared arrivals)
    {
        if (_call.Traits.BlockSize > 0)
        {
            CopyPages(source, layout, to, key, arrivals);
            return;
        }

        _k.If(_isElected, () =>
        {
            _k.ArriveExpecting(arrivals, layout.Bytes);
            for (int box = 0; box < layout.Boxes; box++)
                _k.CopyBox(to + (box * layout.BoxBytes), new(source.Map, box * BoxedRows.BoxColumns, source.Token + key, source.Head, source.Batch), arrivals);
        });
    }

    /// <summary>A lane for each box of rows, as many as lie in one block and one tile: those that have no block are not read. With blocks of one token a box is a row of 128 bytes.</summary>
    private void CopyPages(Source source, BoxedRows layout, Shared to, I32 key, Shared arrivals)
    {
        int blockSize = _call.Traits.BlockSize, rows = BoxRows(blockSize, _tile.Keys);

        // Of the tile's boxes [begin, end).
        I32 begin = I32.Quotient(I32.Max(source.FirstValid - key, 0), rows), end = I32.Quotient(I32.Min(source.EndValid - key, _tile.Keys) + (rows - 1), rows);
        _k.Where(_isElected, () => _k.ArriveExpecting(arrivals, (end - begin) * (rows * BoxedRows.RowBytes * layout.Boxes)));
        _k.WarpBarrier();
        _k.For("page", begin + _lane, end, 32, page =>
        {
            I32 token = key + (page * rows), block = I32.Quotient(token, blockSize), id = _call.BlockId(source.BlockTableStart, block);
            Shared first = to + (page * (rows * BoxedRows.RowBytes));
            for (int box = 0; box < layout.Boxes; box++)
                _k.CopyBox(first + (box * layout.BoxBytes), new(source.Map, box * BoxedRows.BoxColumns, token - (block * blockSize), source.Head, id), arrivals);
        });
    }

    private Source KeysOf(SequenceReader sequence, ItemReader item, I32 head)
    {
        if (_call.Traits.BlockSize > 0) return PagesOf(sequence, item, head, _keyMap);
        I32 isBatched = _parameters.KeyBatches;
        return new(_keyMap, head, TokenOf(sequence.KeyStart, _call.KeyTokenStride, isBatched).As("key_token"), item.Sequence * isBatched, 0, 0, 0);
    }

    private Source ValuesOf(SequenceReader sequence, ItemReader item, I32 head)
    {
        if (_call.Traits.BlockSize > 0) return PagesOf(sequence, item, head, _valueMap);
        I32 isBatched = _parameters.ValueBatches, token = TokenOf(sequence.ValueStart, _call.ValueTokenStride, isBatched).As("value_token");

        // Behind the map's last token there are zeros already.
        I32 end = I32.Select(token + sequence.KeyLength < _parameters.ValueTokens, sequence.KeyLength, int.MaxValue);
        return new(_valueMap, head, token, item.Sequence * isBatched, 0, 0, end.As("end_valid"));
    }

    /// <summary>Blocks that hold a key which some query of the sequence may see have an entry in its table; others have none, and behind the sequence's last key a block holds anything.</summary>
    private Source PagesOf(SequenceReader sequence, ItemReader item, I32 head, I64 map)
    {
        int blockSize = _call.Traits.BlockSize;
        I32 first = Bound(sequence.QueryOffset - _call.LeftReach), end = Bound(sequence.QueryOffset + sequence.QueryLength.Widen() + _call.RightReach);
        return new(map, head, 0, item.Sequence, sequence.BlockTableStart, (I32.Quotient(first, blockSize) * blockSize).As("first_valid"), end.As("end_valid"));

        I32 Bound(I64 position) => I64.Min(I64.Max(position, 0), sequence.KeyLength.Widen()).ToI32();
    }

    /// <summary>Where a sequence begins along the tokens of a map. Starts and strides are multiples of a vector, 8 elements, and in these units numbers of 32 bits.</summary>
    private static I32 TokenOf(I64 start, I64 stride, I32 isBatched) => I32.Select(isBatched.IsNot(0), 0, I32.Quotient((start >>> 3).ToI32(), (stride >>> 3).ToI32()));

    /// <summary>Where tiles come from.</summary>
    /// <param name="Map">Of the tensor.</param>
    /// <param name="Head">The key/value head.</param>
    /// <param name="Token">Of the sequence's first key.</param>
    /// <param name="Batch">Of the sequence.</param>
    /// <param name="BlockTableStart">Of the sequence.</param>
    /// <param name="FirstValid">What lies in front of this key is no token of the sequence.</param>
    /// <param name="EndValid">Nor what lies from here on.</param>
    private sealed record Source(I64 Map, I32 Head, I32 Token, I32 Batch, I64 BlockTableStart, I32 FirstValid, I32 EndValid);
}
