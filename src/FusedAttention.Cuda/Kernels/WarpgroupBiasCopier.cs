using System.Numerics;
using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// A warp that copies biases from device to shared memory, a tile ahead of who adds them. It waits for nothing but room: the barrier of a tile counts the lanes' copies as they end. Rows lie in boxes of 128 bytes, chunks of
/// which are moved so that those who read meet in no bank.
/// </summary>
/// <remarks>A tile of 128 rows and keys is 64 copies of the warp in 16 bits, some 450 instructions.</remarks>
internal sealed class WarpgroupBiasCopier
{
    private const int Chunk = 16;

    /// <summary>Rows whose chunks are moved alike.</summary>
    private const int Turn = 8;

    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly WarpgroupMemory _memory;
    private readonly WarpgroupLookupMemory _places;
    private readonly WarpgroupTile _tile;
    private readonly I32 _lane;
    private readonly StageRing _biases;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="memory">Where everything lies.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="lane">Of the warp.</param>
    public WarpgroupBiasCopier(PtxKernel k, CallReader call, WarpgroupMemory memory, WarpgroupTile tile, I32 lane)
    {
        (_k, _call, _memory, _places, _tile, _lane) = (k, call, memory, memory.Lookups!, tile, lane);
        _biases = new(k, "biases", WarpgroupLookups.BiasStages, parity: 1);
    }

    private int Bytes => _tile.Lookups.BiasBytes;

    private int Chunks => _tile.Keys * Bytes / Chunk;

    /// <summary>Lanes that have a row between them.</summary>
    private int LanesOfRow => (int)BitOperations.RoundUpToPowerOf2((uint)Chunks);

    /// <summary>Works on items until there are none left.</summary>
    public void CopyItems(WarpgroupWork work) => work.ForEachItem("bias", _lane, CopyItem);

    /// <summary>Where a chunk of a row lies in its row of 128 bytes: 16-bit elements are read as matrices of eight rows, a chunk each; floats two a lane, 32 bytes of four rows at a time.</summary>
    /// <param name="bytes">Of an element.</param>
    /// <param name="chunk">Its number in the row of 128 bytes.</param>
    /// <param name="row">Of the tile.</param>
    public static I32 Moved(int bytes, I32 chunk, I32 row) => chunk ^ (bytes == 2 ? row & (Turn - 1) : (row & 3) << 1);

    private void CopyItem(WorkSlot slot, I32 head)
    {
        ItemReader item = slot.Item;
        I32 first = _k.ShuffleFrom(WarpgroupLoads.FirstTile(item, _tile.Keys), 0).As("bias_first"), key = _k.Variable("bias_key", _k.ShuffleFrom(WarpgroupLoads.LastTile(item, _tile.Keys), 0));
        I32 keys = slot.Sequence.KeyLength.As("bias_keys");
        (I32 rows, Predicate isAligned) = FindRows(new(_k, _call, item, head, slot.Sequence));
        _k.While("bias_tile", () => key >= first, () =>
        {
            _k.WaitForPhase(WarpgroupMemory.Of(_places.BiasEmpty, _biases), _biases.Parity);
            Copy(key, keys, rows, isAligned);
            _biases.Advance();
            key.Add(-_tile.Keys);
        });
    }

    /// <summary>Where the rows of the bias begin.</summary>
    /// <returns>How many there are, and whether all of them begin where vectors can be copied.</returns>
    private (I32 Rows, Predicate IsAligned) FindRows(WorkPlace place)
    {
        var rows = new WarpgroupBiasRows(_call, place.Item);
        I32 count = rows.Count.As("bias_rows"), bits = _k.Variable("bias_address_bits", (I32)0);
        _k.For("bias_row", _lane, count, 32, row =>
        {
            I64 address = place.RowAt(place.Item.FirstRow + rows.RowWith(row)).Bias!.ToI64();
            _k.Store(_places.BiasRows + (row << 3), address);
            bits.Set(bits | address.ToI32());
        });
        _k.WarpBarrier();
        return (count, !_k.Any((bits & (Chunk - 1)).IsNot(0)));
    }

    /// <summary>Queues the copy of a tile: neighbours of a row by neighbouring lanes, each with the same columns of every row that it copies of. Behind the sequence's last key there are zeros.</summary>
    private void Copy(I32 key, I32 keys, I32 rows, Predicate isAligned)
    {
        int rowsOfPass = 32 / Math.Min(LanesOfRow, 32);
        I32 sub = _lane >>> BitOperations.Log2((uint)LanesOfRow), chunk = _lane & (LanesOfRow - 1), first = key + (chunk * (Chunk / Bytes));
        I32 taken = (I32.Max(I32.Min(keys - first, Chunk / Bytes), 0) * Bytes).As("bias_taken");
        I64 offset = first.Widen() * (long)Bytes;
        Shared stage = new(_places.Bias(_biases.Index).ToI32()), full = new(WarpgroupMemory.Of(_places.BiasFull, _biases).ToI32());
        Shared box = stage + ((chunk >>> 3) * WarpgroupLookups.BiasBoxBytes(_tile.Rows));
        Predicate isInside = chunk < Chunks;
        Global FromOf(I32 row) => new Global(_k.Load<I64>(_places.BiasRows + (row << 3))) + offset;
        Shared ToOf(I32 row) => box + ((row << 7) + (Moved(Bytes, chunk & 7, row) << 4));
        _k.If(isAligned, () =>
        {
            _k.For("bias_turn", sub, rows, Turn, turn =>
            {
                // Rows of a turn are a constant apart, and so are the chunks' places.
                for (int pass = 0; pass < Turn; pass += rowsOfPass)
                {
                    I32 row = turn + pass;
                    _k.If((row < rows) & isInside, () => _k.CopyAsync(ToOf(row), FromOf(row), taken));
                }
            });
            _k.ArriveBehindCopies(full);
        }, () =>
        {
            _k.For("bias_row", sub, rows, rowsOfPass, row => _k.If(isInside, () => CopyElements(ToOf(row), FromOf(row), taken)));
            _k.Arrive(full);
        });
    }

    /// <summary>A chunk of a row that begins anywhere, element by element. What is behind the sequence's last key is not read.</summary>
    private void CopyElements(Shared to, Global from, I32 taken)
    {
        var words = new I32[Chunk / sizeof(int)];
        for (int word = 0; word < words.Length; word++)
        {
            words[word] = _k.Variable("bias_word", (I32)0);
            if (Bytes == sizeof(int))
            {
                _k.Where(taken > word * sizeof(int), () => _k.Load(words[word], from + (word * sizeof(int))));
                continue;
            }

            for (int half = 0; half < 2; half++)
            {
                int at = (word * sizeof(int)) + (half * Bytes);
                I32 value = _k.Variable("bias_half", (I32)0);
                _k.Where(taken > at, () => _k.LoadHalf(value, from + at));
                words[word].Set(words[word] | (value << (16 * half)));
            }
        }

        _k.StoreVector(to, words);
    }
}
