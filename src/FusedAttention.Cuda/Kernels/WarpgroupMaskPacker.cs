using System.Numerics;
using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A warp that packs boolean masks: a byte a score from device memory becomes a bit a score in shared memory, some tiles ahead of who asks. A bit is 1 where the key is in the row's reach too: so those who compute ask
/// for nothing else. Parts of 32 rows of an item's tiles, from the last tile to the first, are dealt out to the packers in turn.
/// </summary>
/// <remarks>
/// A part of 128 keys is eight copies of 16 bytes a lane, neighbours side by side, and some 210 instructions to pack a row a lane: 830 of a warp a tile of 128 rows, on schedulers that have some 11,000 turns for it at
/// D = 128. Those who compute would take more for bytes than the mask is worth: they test a bit and select, once a score.
/// </remarks>
internal sealed class WarpgroupMaskPacker
{
    /// <summary>The highest bits of four bytes, moved so that those of two bytes are neighbours.</summary>
    private const int Pairs = unchecked((int)0xC000C000);

    /// <summary>Behind a row's address.</summary>
    private const int ReachOffset = sizeof(long);

    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupMemory _memory;
    private readonly WarpgroupLookupMemory _places;
    private readonly WarpgroupTile _tile;
    private readonly I32 _lane;
    private readonly int _packer;
    private readonly Shared _rows;
    private readonly StageRing _masks;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the warp.</param>
    /// <param name="packer">The warp's number among those that pack.</param>
    public WarpgroupMaskPacker(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane, int packer)
    {
        (_k, _call, _memory, _places, _tile, _lane, _packer) = (k, call, memory, memory.Lookups!, tile, lane, packer);
        _rows = new(_places.Packer(packer).ToI32().As("mask_rows"));
        _masks = new(k, "masks", WarpgroupLookups.MaskStages, parity: 1);
    }

    private int Chunks => _tile.Keys / WarpgroupLookups.MaskChunk;

    /// <summary>The bytes of two parts wait behind the rows.</summary>
    private Shared Bytes => _rows + (_tile.Rows * WarpgroupLookups.RowBytes);

    private int BytesOfPart => WarpgroupLookups.PackedRows * WarpgroupLookups.MaskStride(_tile.Keys);

    /// <summary>Works on items until there are none left.</summary>
    public void PackItems(WarpgroupWork work) => work.ForEachItem("mask", _lane, Pack);

    /// <summary>Packs the warp's parts of an item.</summary>
    public void Pack(WorkSlot slot, I32 head)
    {
        ItemReader item = slot.Item;
        I32 first = _k.ShuffleFrom(WarpgroupLoads.FirstTile(item, _tile.Keys), 0).As("mask_first"), last = _k.ShuffleFrom(WarpgroupLoads.LastTile(item, _tile.Keys), 0).As("mask_last");
        I32 keys = slot.Sequence.KeyLength.As("mask_keys");
        Predicate isAligned = FindRows(new(_k, _call, item, head, slot.Sequence));
        I32 part = _k.Variable("mask_part", (I32)_packer), key = _k.Variable("mask_key", last), bytes = _k.Variable("mask_bytes", Bytes.ToI32());
        _k.If(key >= first, () => Copy(new(bytes), key, part, keys, isAligned));
        _k.CommitCopies();
        _k.While("mask_part", () => key >= first, () =>
        {
            I32 after = part + _tile.Lookups.Packers;
            Predicate isNextTile = after >= _places.Parts;
            I32 nextPart = I32.Select(isNextTile, after - _places.Parts, after), nextKey = I32.Select(isNextTile, key - _tile.Keys, key), nextBytes = (Bytes.ToI32() << 1) + BytesOfPart - bytes;
            _k.WarpBarrier();
            _k.If(nextKey >= first, () => Copy(new(nextBytes), nextKey, nextPart, keys, isAligned));
            _k.CommitCopies();
            _k.WaitForCopies(1);
            _k.WarpBarrier();
            _k.WaitForPhase(WarpgroupMemory.Of(_places.MaskEmpty, _masks), _masks.Parity);
            StoreBits(new(bytes), key, part);
            _k.If(isNextTile, _masks.Advance);
            key.Set(nextKey);
            part.Set(nextPart);
            bytes.Set(nextBytes);
        });
    }

    /// <summary>Where the masks of the item's rows begin, and what is in their reach; beyond its last row, that one's again.</summary>
    /// <returns>Whether all of them begin where vectors can be copied.</returns>
    private Predicate FindRows(WorkPlace place)
    {
        I32 bits = _k.Variable("mask_address_bits", (I32)0);
        _k.For("mask_row", _lane, _tile.Rows, 32, row =>
        {
            RowReader reader = place.RowAt(place.Item.FirstRow + row);
            I64 address = reader.Mask!.ToI64();
            Shared at = RowAt(row);
            _k.Store(at, address);
            _k.StoreVector(at + ReachOffset, reader.Start, reader.End);
            bits.Set(bits | address.ToI32());
        });
        _k.WarpBarrier();
        return !_k.Any((bits & (WarpgroupLookups.MaskChunk - 1)).IsNot(0));
    }

    private Shared RowAt(I32 row) => _rows + (row << 4);

    /// <summary>Queues the copy of a part's bytes: neighbours of a row by neighbouring lanes, each with the same columns of every row that it copies of. Keys that the sequence does not have are not seen.</summary>
    private void Copy(Shared to, I32 key, I32 part, I32 keys, Predicate isAligned)
    {
        int stride = WarpgroupLookups.MaskStride(_tile.Keys), lanesOfRow = (int)BitOperations.RoundUpToPowerOf2((uint)Chunks), rowsOfPass = 32 / lanesOfRow;
        I32 row = _lane >>> BitOperations.Log2((uint)lanesOfRow), chunk = _lane & (lanesOfRow - 1), first = key + (chunk << 4);
        I32 taken = I32.Max(I32.Min(keys - first, WarpgroupLookups.MaskChunk), 0);
        Shared addresses = RowAt((part << 5) + row), place = to + I32.MultiplyAdd(row, stride, chunk << 4);
        I64 offset = first.Widen();
        _k.If(chunk < Chunks, () => _k.If(isAligned, () =>
        {
            for (int r = 0; r < WarpgroupLookups.PackedRows; r += rowsOfPass)
                _k.CopyAsync(place + (r * stride), new Global(_k.Load<I64>(addresses + (r * WarpgroupLookups.RowBytes)) + offset), taken);
        }, () => _k.For("mask_rows", 0, WarpgroupLookups.PackedRows, rowsOfPass, r =>
        {
            // Rows that begin anywhere: byte by byte. What is behind the sequence's last key is not read.
            var from = new Global(_k.Load<I64>(addresses + (r << 4)) + offset);
            var words = new I32[WarpgroupLookups.MaskChunk / sizeof(int)];
            for (int word = 0; word < words.Length; word++)
            {
                words[word] = _k.Variable("mask_word", (I32)0);
                for (int i = 0; i < sizeof(int); i++)
                {
                    int at = (word * sizeof(int)) + i;
                    I32 value = _k.Variable("mask_byte", (I32)0);
                    _k.Where(taken > at, () => _k.LoadByte(value, from + at));
                    words[word].Set(words[word] | (value << (8 * i)));
                }
            }

            _k.StoreVector(place + (r * stride), words);
        })));
    }

    /// <summary>
    /// A row a lane: of every eight keys, four words of two bits for the four lanes that share a row among those who compute. Bits come in from above, two at a time, one word for the first two of these lanes and one for
    /// the others, so that what is shifted lies in place after 64 keys.
    /// </summary>
    private void StoreBits(Shared bytes, I32 key, I32 part)
    {
        const int KeysOfHalf = 64;
        Shared own = bytes + (_lane * WarpgroupLookups.MaskStride(_tile.Keys));
        I32 zero = I32.InRegister(_k, 0);
        I32[][] halves = [[zero, zero], [zero, zero]];
        for (int chunk = 0; chunk < Chunks; chunk++)
        {
            I32[] words = _k.LoadVector<I32>(own + (chunk * WarpgroupLookups.MaskChunk), 4);
            I32[] half = halves[chunk * WarpgroupLookups.MaskChunk / KeysOfHalf];
            for (int word = 0; word < words.Length; word++) half[word & 1] = (half[word & 1] >>> 2) | (PairsOf(words[word]) & Pairs);
        }

        for (int i = 0; i < halves.Length; i++)
        {
            int groups = Math.Clamp((_tile.Keys - (i * KeysOfHalf)) / 8, 0, 8);
            if (groups > 0) halves[i] = [.. halves[i].Select(half => half >>> (16 - (2 * groups)))];
        }

        I32[] bits = _k.Registers<I32>("mask_bits", 4);
        for (int lane = 0; lane < bits.Length; lane++)
        {
            I32 low = halves[0][lane >> 1], high = halves[1][lane >> 1];
            bits[lane].Set((lane & 1) == 0 ? (low & 0xFFFF) | (high << 16) : (low >>> 16) | (high & unchecked((int)0xFFFF0000)));
        }

        I32[] reach = _k.LoadVector<I32>(RowAt((part << 5) + _lane) + ReachOffset, 2);
        I32 start = reach[0] - key, end = reach[1] - key;
        _k.If(_k.Any((start > 0) | (end < _tile.Keys)), () =>
        {
            for (int lane = 0; lane < bits.Length; lane++) bits[lane].Set(bits[lane] & ReachWords.Of(start - (2 * lane), end - (2 * lane)));
        });
        Shared stage = new(_places.Mask(_masks.Index).ToI32());
        _k.StoreVector(stage + (((part << 5) + _lane) << 4), bits);
        Predicate sees = _k.Any(bits.Aggregate(static (a, b) => a | b).IsNot(0));
        Predicate isFirst = _lane.Is(0);
        _k.Where(isFirst, () => _k.Store(stage + (part << 2) + WarpgroupLookups.FlagsOffset(_tile.Rows), I32.Select(sees, 1, 0)));
        _k.WarpBarrier();
        _k.Where(isFirst, () => _k.Arrive(WarpgroupMemory.Of(_places.MaskFull, _masks)));
    }

    /// <summary>Of four bytes, at bits 14, 15, 30 and 31 whether they are not 0. The sum carries into a byte's highest bit unless the others are 0; of the product's terms no two meet.</summary>
    private static I32 PairsOf(I32 bytes)
    {
        const int Low = 0x7f7f7f7f;
        return ((((bytes & Low) + Low) | bytes) & ~Low) * 129;
    }
}
