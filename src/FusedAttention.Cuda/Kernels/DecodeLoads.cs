using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The warp that has the copy unit bring a decode item's keys and values, as far ahead as there are stages.</summary>
internal sealed class DecodeLoads
{
    private readonly PtxKernel _k;
    private readonly DecodeTile _tile;
    private readonly WorkPlace _place;
    private readonly BoxStages _memory;
    private readonly TileBoxes _boxes;
    private readonly BoxSource _keys;
    private readonly BoxSource _values;
    private readonly StageRing _ring;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="place">The item.</param>
    /// <param name="memory">Where to.</param>
    /// <param name="lane">Of the warp.</param>
    public DecodeLoads(PtxKernel k, CallReader call, in DecodeTile tile, WorkPlace place, BoxStages memory, I32 lane)
    {
        (_k, _tile, _place, _memory) = (k, tile, place, memory);
        (Predicate isElected, _) = k.ElectLane();

        // As in the other form: what is read once makes room for partial results, which are read again.
        _boxes = new(k, call, tile.TileKeys, lane, isElected, k.EvictFirst());
        var parameters = new DecodeBoxParameters(k);
        I64 keyMap = parameters.KeyMap.As("key_map"), valueMap = parameters.ValueMap.As("value_map");
        k.Where(isElected, () =>
        {
            k.PrefetchMap(keyMap);
            k.PrefetchMap(valueMap);
        });
        if (call.Traits.BlockSize > 0)
        {
            // Blocks that have none of the item's keys are not looked up: a sequence has no entry for those that nobody sees.
            I32 first = (I32.Quotient(place.Item.FirstKey, call.Traits.BlockSize) * call.Traits.BlockSize).As("first_valid");
            _keys = new(keyMap, place.Head, 0, 0, place.Sequence.BlockTableStart, first, place.Item.EndKey);
            _values = _keys with { Map = valueMap };
        }
        else
        {
            I32 areKeysBatched = parameters.KeyBatches, areValuesBatched = parameters.ValueBatches;
            _keys = new(keyMap, place.Head, TileBoxes.TokenOf(place.Sequence.KeyStart, call.KeyTokenStride, areKeysBatched).As("key_token"), place.Item.Sequence * areKeysBatched, 0, 0, 0);
            _values = new(valueMap, place.Head, TileBoxes.TokenOf(place.Sequence.ValueStart, call.ValueTokenStride, areValuesBatched).As("value_token"), place.Item.Sequence * areValuesBatched, 0, 0, 0);
        }

        _ring = new(k, "filling", tile.Stages, parity: 1);
    }

    /// <summary>Queues all tiles of the item, as often as they are asked for.</summary>
    public void Write() => _k.Repeat("load_pass", () =>
    {
        I32 key = _k.Variable("load_key", _place.Item.FirstKey & -_tile.TileKeys);
        _k.While("load", () => key < _place.Item.EndKey, () =>
        {
            I32? block = _boxes.BlockAhead(_keys, key);
            _k.WaitForPhase(_memory.EmptyOf(_ring), _ring.Parity);
            Shared full = _memory.FullOf(_ring), stage = _memory.StageOf(_ring);
            _boxes.CopyTile(_keys, _memory.KeyRows, stage, key, full, block);
            _boxes.CopyTile(_values, _memory.ValueRows, stage + _memory.KeyRows.Bytes, key, full, block);
            _ring.Advance();
            key.Add(_tile.TileKeys);
        });
        return _k.BarrierAny(0, _tile.BlockThreads, _k.Variable("is_again", value: false));
    });
}

/// <summary>The end of the parameter, in a decode kernel whose keys and values come in boxes.</summary>
internal sealed class DecodeBoxParameters(PtxKernel k)
{
    public I64 KeyMap => AddressOf(ref BlockFields<DecodeBoxBlock>.Block.KeyMap);

    public I64 ValueMap => AddressOf(ref BlockFields<DecodeBoxBlock>.Block.ValueMap);

    public I32 KeyBatches => k.Parameter<I32>(OffsetOf(ref BlockFields<DecodeBoxBlock>.Block.KeyBatches));

    public I32 ValueBatches => k.Parameter<I32>(OffsetOf(ref BlockFields<DecodeBoxBlock>.Block.ValueBatches));

    private static int OffsetOf<T>(ref T field) => DecodeBoxBlock.Offset + BlockFields<DecodeBoxBlock>.OffsetOf(ref field);

    private I64 AddressOf(ref TensorMap map) => k.ParameterAddress() + (long)OffsetOf(ref map);
}
