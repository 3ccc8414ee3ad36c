using FusedAttention.Cuda.Ptx;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Copies tiles of keys and of their values from device to shared memory in the background: rows outside of the item's keys are zero, and not read.</summary>
internal sealed class KeyTileCopies
{
    private readonly CallReader _call;
    private readonly SequenceReader _sequence;
    private readonly ItemReader _item;
    private readonly RowCopies _keyCopies;
    private readonly RowCopies _valueCopies;
    private readonly Source _keys;
    private readonly Source _values;
    private readonly I64? _policy;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="sequence">The keys' sequence.</param>
    /// <param name="head">The key/value head.</param>
    /// <param name="item">The item.</param>
    /// <param name="rows">Of a tile.</param>
    /// <param name="threads">That copy it.</param>
    /// <param name="thread">This one's number among them.</param>
    /// <param name="policy">Of the second-level cache; null: as with anything.</param>
    public KeyTileCopies(PtxKernel k, CallReader call, SequenceReader sequence, I32 head, ItemReader item, int rows, int threads, I32 thread, I64? policy = null)
    {
        _policy = policy;
        (_call, _sequence, _item) = (call, sequence, item);
        KeyLayout = new(call.Traits.KeyDim);
        ValueLayout = new(call.Traits.ValueDim);
        _keyCopies = new(k, KeyLayout, rows, threads, thread);
        _valueCopies = KeyLayout.Dim == ValueLayout.Dim ? _keyCopies : new(k, ValueLayout, rows, threads, thread);
        _keys = new(
            call.Key.ToI64() + ((sequence.KeyStart + (head.Widen() * call.KeyHeadStride)) * Bytes) + _keyCopies.ChunkOffset.Widen(), call.KeyTokenStride * Bytes, call.KeyBlockStride * Bytes);
        _values = new(
            call.Value.ToI64() + ((sequence.ValueStart + (head.Widen() * call.ValueHeadStride)) * Bytes) + _valueCopies.ChunkOffset.Widen(), call.ValueTokenStride * Bytes, call.ValueBlockStride * Bytes);
    }

    public SharedRows KeyLayout { get; }

    public SharedRows ValueLayout { get; }

    private long Bytes => _call.Traits.KeyValueType.Size();

    /// <summary>Queues the keys of the tile that begins at key <paramref name="first"/>.</summary>
    public void CopyKeys(Shared tile, I32 first) => Copy(tile, first, _keyCopies, _keys);

    /// <summary>Queues the values.</summary>
    public void CopyValues(Shared tile, I32 first) => Copy(tile, first, _valueCopies, _values);

    private void Copy(Shared tile, I32 first, RowCopies copies, Source source)
    {
        I32 key = first + copies.FirstRow;
        I32 offset = key - _item.FirstKey, length = _item.EndKey - _item.FirstKey;
        var rows = new PagedRows(_call, _sequence, _item, source, copies.RowsOfPass, key);
        for (int pass = 0; pass < copies.Passes; pass++)
        {
            Predicate isInside = (offset + (pass * copies.RowsOfPass)).IsBelow(length);
            copies.Copy(tile, pass, rows.Of(pass), isInside, _policy);
        }
    }

    /// <param name="First">The address of the thread's first chunk of key 0, or of the first token of block 0.</param>
    /// <param name="TokenStride">In bytes.</param>
    /// <param name="BlockStride">In bytes.</param>
    private sealed record Source(I64 First, I64 TokenStride, I64 BlockStride);

    /// <summary>Addresses of the rows of one tile, pass by pass. Passes that share a block of the cache ask for it once.</summary>
    private sealed class PagedRows(CallReader call, SequenceReader sequence, ItemReader item, Source source, int rowsOfPass, I32 key)
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
                _step ??= source.TokenStride * rowsOfPass;
                _row = _row is null ? I64.MultiplyAdd(key.Widen(), source.TokenStride, source.First) : _row + _step;
                return new(_row);
            }

            // Keys outside of the item have no block: the nearest one's is asked for, and not read.
            I32 own = I32.Min(I32.Max(key + (pass * rowsOfPass), item.FirstKey), item.EndKey - 1);
            if (int.IsPow2(blockSize) && blockSize % rowsOfPass == 0)
            {
                // Tiles begin at multiples of their rows, so which passes lie in one block is known here.
                int block = pass * rowsOfPass / blockSize;
                if (block != _lastBlock) (_lastBlock, _block) = (block, BlockOf(own));
                return new(I64.MultiplyAdd((own & (blockSize - 1)).Widen(), source.TokenStride, _block!));
            }

            I32 index = I32.Quotient(own, blockSize);
            return new(I64.MultiplyAdd((own - (index * blockSize)).Widen(), source.TokenStride, AddressOf(index)));
        }

        private I64 BlockOf(I32 own) => AddressOf(own >>> int.TrailingZeroCount(call.Traits.BlockSize));

        private I64 AddressOf(I32 index) => I64.MultiplyAdd(call.BlockId(sequence, index).Widen(), source.BlockStride, source.First);    }
}
