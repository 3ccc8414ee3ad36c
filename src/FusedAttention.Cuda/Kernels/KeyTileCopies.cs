using FusedAttention.Cuda.Ptx;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The keys of a work item, as those who copy them need it.</summary>
/// <param name="FirstKey">Keys before it are not read.</param>
/// <param name="EndKey">Nor are those from here on.</param>
/// <param name="Keys">The address of key 0 of the head, or of the first token of block 0.</param>
/// <param name="Values">The address of its value.</param>
/// <param name="BlockTableStart">Of the sequence; anything without pages.</param>
internal sealed record KeySource(I32 FirstKey, I32 EndKey, I64 Keys, I64 Values, I64 BlockTableStart)
{
    public static KeySource Of(CallReader call, WorkPlace place)
    {
        long bytes = call.Traits.KeyValueType.Size();
        I64 head = place.Head.Widen();
        return new(
            place.Item.FirstKey, place.Item.EndKey,
            call.Key.ToI64() + ((place.Sequence.KeyStart + (head * call.KeyHeadStride)) * bytes),
            call.Value.ToI64() + ((place.Sequence.ValueStart + (head * call.ValueHeadStride)) * bytes),
            place.Sequence.BlockTableStart);
    }
}

/// <summary>Copies tiles of keys and of their values from device to shared memory in the background: rows outside of the item's keys are zero, and not read.</summary>
internal sealed class KeyTileCopies
{
    private readonly CallReader _call;
    private readonly RowCopies _keyCopies;
    private readonly RowCopies _valueCopies;
    private readonly I64? _policy;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="rows">Of a tile.</param>
    /// <param name="threads">That copy it.</param>
    /// <param name="thread">This one's number among them.</param>
    /// <param name="policy">Of the second-level cache; null: as with anything.</param>
    public KeyTileCopies(PtxKernel k, CallReader call, int rows, int threads, I32 thread, I64? policy = null)
    {
        (_call, _policy) = (call, policy);
        // Codes of 8 bits lie as half as many elements.
        KeyLayout = new(call.Traits.KeyDim * (int)Bytes / 2);
        ValueLayout = new(call.Traits.ValueDim * (int)Bytes / 2);
        _keyCopies = new(k, KeyLayout, rows, threads, thread);
        _valueCopies = KeyLayout.Dim == ValueLayout.Dim ? _keyCopies : new(k, ValueLayout, rows, threads, thread);
    }

    public SharedRows KeyLayout { get; }

    public SharedRows ValueLayout { get; }

    private long Bytes => _call.Traits.KeyValueType.Size();

    /// <summary>Queues the keys of the tile that begins at key <paramref name="first"/>.</summary>
    public void CopyKeys(Shared tile, I32 first, KeySource source) =>
        Copy(tile, first, source, _keyCopies, source.Keys + _keyCopies.ChunkOffset.Widen(), _call.KeyTokenStride * Bytes, _call.KeyBlockStride * Bytes);

    /// <summary>Queues the values.</summary>
    public void CopyValues(Shared tile, I32 first, KeySource source) =>
        Copy(tile, first, source, _valueCopies, source.Values + _valueCopies.ChunkOffset.Widen(), _call.ValueTokenStride * Bytes, _call.ValueBlockStride * Bytes);

    /// <summary>The copies of a tile's keys and values, to be queued one after the other.</summary>
    /// <param name="keys">Where keys go.</param>
    /// <param name="values">Where values go.</param>
    /// <param name="first">The tile's first key.</param>
    /// <param name="source">The item's keys.</param>
    /// <param name="isThere">Whether there is a tile; else all of it is zero, and nothing is read.</param>
    public Action[] Passes(Shared keys, Shared values, I32 first, KeySource source, Predicate isThere)
    {
        Action[] ofKeys = Passes(keys, first, source, _keyCopies, source.Keys + _keyCopies.ChunkOffset.Widen(), _call.KeyTokenStride * Bytes, _call.KeyBlockStride * Bytes, isThere);
        Action[] ofValues = Passes(values, first, source, _valueCopies, source.Values + _valueCopies.ChunkOffset.Widen(), _call.ValueTokenStride * Bytes, _call.ValueBlockStride * Bytes, isThere);

        // In turns where registers are scarce: an address is not overwritten before its copy has read it, and waiting for that is shorter with another one in between (D = 64 has registers for all, and takes 1 % longer).
        return KeyLayout.Dim <= 64 ? [.. ofKeys, .. ofValues] : [.. ofKeys.Zip(ofValues, static (key, value) => (Action[])[key, value]).SelectMany(static both => both), .. ofKeys.Skip(ofValues.Length), .. ofValues.Skip(ofKeys.Length)];
    }

    private void Copy(Shared tile, I32 first, KeySource source, RowCopies copies, I64 chunks, I64 tokenStride, I64 blockStride)
    {
        foreach (Action pass in Passes(tile, first, source, copies, chunks, tokenStride, blockStride, null)) pass();
    }

    private Action[] Passes(Shared tile, I32 first, KeySource source, RowCopies copies, I64 chunks, I64 tokenStride, I64 blockStride, Predicate? isThere)
    {
        I32 key = first + copies.FirstRow;
        I32 offset = key - source.FirstKey, length = source.EndKey - source.FirstKey;
        if (isThere is not null) length = I32.Select(isThere, length, 0);
        var rows = new TileRows(_call, source, chunks, tokenStride, blockStride, copies.RowsOfPass, key);
        return [.. Enumerable.Range(0, copies.Passes).Select<int, Action>(pass => () =>
        {
            Predicate isInside = (offset + (pass * copies.RowsOfPass)).IsBelow(length);
            copies.Copy(tile, pass, rows.Of(pass), isInside, _policy);
        })];
    }

    /// <summary>Addresses of the rows of one tile, pass by pass. Passes that share a block of the cache ask for it once.</summary>
    private sealed class TileRows(CallReader call, KeySource source, I64 chunks, I64 tokenStride, I64 blockStride, int rowsOfPass, I32 key)
    {
        private I64? _row;
        private I64? _step;
        private int _lastBlock = -1;
        private I64? _block;

        public Global Of(int pass)
        {
            int blockSize = call.Traits.BlockSize;
            if (blockSize == 0)
            {
                _step ??= tokenStride * rowsOfPass;
                _row = _row is null ? I64.MultiplyAdd(key.Widen(), tokenStride, chunks) : _row + _step;
                return new(_row);
            }

            // Keys outside of the item have no block: the nearest one's is asked for, and not read.
            I32 own = I32.Min(I32.Max(key + (pass * rowsOfPass), source.FirstKey), source.EndKey - 1);
            if (int.IsPow2(blockSize) && blockSize % rowsOfPass == 0)
            {
                // Tiles begin at multiples of their rows, so which passes lie in one block is known here.
                int block = pass * rowsOfPass / blockSize;
                if (block != _lastBlock) (_lastBlock, _block) = (block, AddressOf(own >>> int.TrailingZeroCount(blockSize)));
                return new(I64.MultiplyAdd((own & (blockSize - 1)).Widen(), tokenStride, _block!));
            }

            I32 index = I32.Quotient(own, blockSize);
            return new(I64.MultiplyAdd((own - (index * blockSize)).Widen(), tokenStride, AddressOf(index)));
        }

        private I64 AddressOf(I32 index) => I64.MultiplyAdd(call.BlockId(source.BlockTableStart, index).Widen(), blockStride, chunks);
    }
}
