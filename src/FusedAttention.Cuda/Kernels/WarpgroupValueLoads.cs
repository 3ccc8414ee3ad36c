using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The warp that copies values.</summary>
internal sealed class WarpgroupValueLoads : WarpgroupLoads
{
    private readonly I64 _valueMap;
    private readonly StageRing _values;
    private readonly I32 _rawParity;

    /// <summary>With a mask or a mask function, the keys of the tiles that are seen; null without.</summary>
    private readonly StageRing? _keys;

    /// <inheritdoc cref="WarpgroupLoads(PtxKernel, CallReader, WarpgroupMemory, WarpgroupTile, I32)"/>
    public WarpgroupValueLoads(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane)
        : base(k, call, memory, tile, lane)
    {
        _valueMap = Fetched(Parameters.ValueMap, "value_map");
        _values = new(k, "values", WarpgroupTile.Stages, parity: 1);
        _rawParity = k.Variable("raw_parity", (I32)0);
        if (tile.Lookups.PassesTiles) _keys = new(k, "seen_keys", WarpgroupTile.Stages, parity: 0);
    }

    protected override void Load(WorkSlot slot)
    {
        ItemReader item = slot.Item;
        I32 first = FirstTile(item, Tile.Keys), key = Kernel.Variable("load_key", LastTile(item, Tile.Keys));
        BoxSource values = ValuesOf(slot.Sequence, item, slot.Head.As("load_head"));
        Predicate isCareful = slot.Careful.IsNot(0);
        var specials = new SpecialValues(Kernel, Call, slot.Specials, Lane);
        if (_keys is not null)
        {
            LoadSeen(tile => LoadValues(values, tile, isCareful, specials));
            return;
        }

        Kernel.While("load", () => key >= first, () =>
        {
            LoadValues(values, key, isCareful, specials);
            key.Add(-Tile.Keys);
        });
    }

    /// <summary>The tiles whose keys have come: they are needed a tile later than those.</summary>
    private void LoadSeen(Action<I32> load)
    {
        var tiles = new WarpgroupSeenTiles(Kernel, Memory, Tile);
        Kernel.Repeat("load", () =>
        {
            I32 key = tiles.Next(_keys!);
            Kernel.WarpBarrier();
            Shared empty = WarpgroupMemory.Of(Memory.KeysEmpty, _keys!);
            Kernel.Where(IsElected, () => Kernel.Arrive(empty));
            _keys!.Advance();
            Predicate isThere = key >= 0;
            Kernel.If(isThere, () => load(key));
            return isThere;
        });
    }

    private void LoadValues(BoxSource source, I32 key, Predicate isCareful, SpecialValues specials)
    {
        I32? block = Boxes.BlockAhead(source, key);
        Kernel.WaitForPhase(WarpgroupMemory.Of(Memory.ValuesEmpty, _values), _values.Parity);
        Shared to = new((Memory.Values + (_values.Index * Memory.ValueRows.Bytes)).ToI32()), full = new(WarpgroupMemory.Of(Memory.ValuesFull, _values).ToI32());
        Predicate isOutside = (key < source.FirstValid) | (key + Tile.Keys > source.EndValid);
        Predicate isRaw = isOutside | isCareful;
        Boxes.CopyTile(source, Memory.ValueRows, to, key, new(I32.Select(isRaw, Memory.ValuesRaw.ToI32(), full.ToI32())), block);
        Kernel.If(isRaw, () =>
        {
            Kernel.WaitForPhase(Memory.ValuesRaw, _rawParity);
            _rawParity.Set(_rawParity ^ 1);
            Kernel.If(isOutside, () => ClearRows(to, key, source));
            Kernel.WarpBarrier();
            Kernel.If(isCareful, () => ForEachBox(to, box => specials.Clean(box, BoxedRows.BoxColumns / SharedRows.Chunk, BoxedRows.RowBytes, Tile.Keys, key, 32, Lane)));
            Kernel.FenceAsyncProxy();
            Kernel.WarpBarrier();
            Kernel.Where(IsElected, () => Kernel.Arrive(full));
        });
        _values.Advance();
    }

    /// <summary>A loop, unless there is one: its variable is one more register, and the 32 of a producer with one box would not do (CUDA 13).</summary>
    private void ForEachBox(Shared tile, Action<Shared> body)
    {
        if (Memory.ValueRows.Boxes == 1) body(tile);
        else Kernel.ForRolled("box", 0, Memory.ValueRows.Boxes, 1, box => body(tile + (box * Memory.ValueRows.BoxBytes)));
    }

    /// <summary>Zeros in rows that are no tokens of the sequence.</summary>
    private void ClearRows(Shared tile, I32 key, BoxSource source) => Kernel.For("clear_row", Lane, Tile.Keys, 32, row =>
    {
        I32 at = key + row;
        Kernel.If((at < source.FirstValid) | (at >= source.EndValid), () =>
        {
            I32 zero = I32.InRegister(Kernel, 0);
            for (int box = 0; box < Memory.ValueRows.Boxes; box++)
            {
                Shared first = tile + (row << 7) + (box * Memory.ValueRows.BoxBytes);
                for (int chunk = 0; chunk < BoxedRows.RowBytes; chunk += 16) Kernel.StoreVector(first + chunk, zero, zero, zero, zero);
            }
        });
    });

    private BoxSource ValuesOf(SequenceReader sequence, ItemReader item, I32 head)
    {
        if (Call.Traits.BlockSize > 0) return PagesOf(sequence, item, head, _valueMap);
        I32 isBatched = Parameters.ValueBatches, token = TileBoxes.TokenOf(sequence.ValueStart, Call.ValueTokenStride, isBatched).As("value_token");

        // Behind the map's last token there are zeros already.
        I32 end = I32.Select(token + sequence.KeyLength < Parameters.ValueTokens, sequence.KeyLength, int.MaxValue);
        return new(_valueMap, head, token, item.Sequence * isBatched, 0, 0, end.As("end_valid"));
    }
}
