using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using FusedAttention.Paging;
using FusedAttention.Tensors;

namespace FusedAttention;

public unsafe partial class PagedKeyValueCache<T>
{
    /// <summary>Blocks that are looked up at once: enough that the lock costs nothing beside the copies, few enough for the stack.</summary>
    private const int BlocksPerLookup = 64;

    /// <summary>Appends one token or many to a sequence of a cache with one layer.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>, any strides.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>, any strides.</param>
    /// <returns>The position of the first new token.</returns>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks; nothing was changed.</exception>
    /// <exception cref="ArgumentException">A shape is not as described, or the handle is stale.</exception>
    /// <exception cref="InvalidOperationException">The cache has more than one layer: use <see cref="Extend(CacheSequence, int)"/> and <c>Write</c>.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int Append(CacheSequence sequence, scoped in ReadOnlyTensorSpan<T> keys, scoped in ReadOnlyTensorSpan<T> values)
    {
        ThrowIfManyLayers();
        int tokens = CheckRows(keys, values, out TensorLayout keyLayout, out TensorLayout valueLayout);
        fixed (T* firstKey = keys)
        fixed (T* firstValue = values)
        {
            return Append(sequence, tokens, new(firstKey, keyLayout), new(firstValue, valueLayout));
        }
    }

    /// <summary>Appends one token or many, packed, to a sequence of a cache with one layer.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="keys">tokens x KeyValueHeads x KeyDim elements.</param>
    /// <param name="values">tokens x KeyValueHeads x ValueDim elements.</param>
    /// <inheritdoc cref="Append(CacheSequence, in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T})"/>
    public int Append(CacheSequence sequence, ReadOnlySpan<T> keys, ReadOnlySpan<T> values)
    {
        ThrowIfManyLayers();
        int tokens = CheckRows(keys, values);
        fixed (T* firstKey = keys)
        fixed (T* firstValue = values)
        {
            return Append(sequence, tokens, new(firstKey, Options.KeyValueHeads, Options.KeyDim), new(firstValue, Options.KeyValueHeads, Options.ValueDim));
        }
    }

    /// <summary>
    /// Adds slots for more tokens to a sequence, all or none, in blocks that no other sequence sees. Their contents are undefined until <c>Write</c> has filled them in every layer that is read.
    /// </summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokens">How many; 0 or more.</param>
    /// <returns>The position of the first new token.</returns>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative, or the sequence would pass 2^31 - 1 tokens.</exception>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int Extend(CacheSequence sequence, int tokens) => _ledger.Extend(sequence, tokens);

    /// <summary>
    /// Writes keys and values of one layer at positions that the sequence has. A block that another sequence sees too is copied first, in all layers; a published one that nobody else uses
    /// is taken back from the index.
    /// </summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">The position of the first token written.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>, any strides.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>, any strides.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or the sequence does not have these positions, or has dropped them.</exception>
    /// <exception cref="ArgumentException">A shape is not as described, or the handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Write(int layer, CacheSequence sequence, int position, scoped in ReadOnlyTensorSpan<T> keys, scoped in ReadOnlyTensorSpan<T> values)
    {
        CheckLayer(layer);
        int tokens = CheckRows(keys, values, out TensorLayout keyLayout, out TensorLayout valueLayout);
        _ledger.PrepareWrite(sequence, position, tokens);
        fixed (T* firstKey = keys)
        fixed (T* firstValue = values)
        {
            Store(layer, sequence, position, tokens, new(firstKey, keyLayout), new(firstValue, valueLayout));
        }
    }

    /// <summary>Writes packed keys and values of one layer at positions that the sequence has.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">The position of the first token written.</param>
    /// <param name="keys">tokens x KeyValueHeads x KeyDim elements.</param>
    /// <param name="values">tokens x KeyValueHeads x ValueDim elements.</param>
    /// <inheritdoc cref="Write(int, CacheSequence, int, in ReadOnlyTensorSpan{T}, in ReadOnlyTensorSpan{T})"/>
    public void Write(int layer, CacheSequence sequence, int position, ReadOnlySpan<T> keys, ReadOnlySpan<T> values)
    {
        CheckLayer(layer);
        int tokens = CheckRows(keys, values);
        _ledger.PrepareWrite(sequence, position, tokens);
        fixed (T* firstKey = keys)
        fixed (T* firstValue = values)
        {
            Store(layer, sequence, position, tokens, new(firstKey, Options.KeyValueHeads, Options.KeyDim), new(firstValue, Options.KeyValueHeads, Options.ValueDim));
        }
    }

    private int Append(CacheSequence sequence, int tokens, TokenRows<T> keys, TokenRows<T> values)
    {
        int position = _ledger.Extend(sequence, tokens);
        Store(0, sequence, position, tokens, keys, values);
        return position;
    }

    /// <summary>Copies rows into blocks that are the sequence's own, without the lock: nobody else writes them, and the lease keeps the memory even if the cache is disposed meanwhile.</summary>
    [SkipLocalsInit]
    private void Store(int layer, CacheSequence sequence, int position, int tokens, TokenRows<T> keys, TokenRows<T> values)
    {
        using BlockStorage<T>.Lease lease = _storage.Hold(layer);
        Span<int> blocks = stackalloc int[BlocksPerLookup];
        int blockSize = Options.BlockSize;
        int done = 0;
        while (done < tokens)
        {
            int first = (position + done) / blockSize, last = (position + tokens - 1) / blockSize;
            Span<int> some = blocks[..Math.Min(BlocksPerLookup, last - first + 1)];
            _ledger.CopyBlocks(sequence, first, some);
            foreach (int block in some)
            {
                int slot = (position + done) % blockSize;
                int run = Math.Min(blockSize - slot, tokens - done);
                keys.CopyTo(_storage.Key(layer, block, slot), done, run);
                values.CopyTo(_storage.Value(layer, block, slot), done, run);
                done += run;
            }
        }
    }

    private protected void ThrowIfManyLayers()
    {
        if (Options.Layers > 1)
            throw new InvalidOperationException($"Append is for caches with one layer, and this one has {Options.Layers}: call Extend once, then Write for each layer.");
    }

    private int CheckRows(scoped in ReadOnlyTensorSpan<T> keys, scoped in ReadOnlyTensorSpan<T> values, out TensorLayout keyLayout, out TensorLayout valueLayout)
    {
        keyLayout = TensorLayout.Of(keys);
        valueLayout = TensorLayout.Of(values);
        return CheckRows(keyLayout, valueLayout);
    }

    /// <returns>How many tokens there are.</returns>
    private protected int CheckRows(in TensorLayout keys, in TensorLayout values)
    {
        CheckRows(keys, Options.KeyDim, nameof(keys));
        CheckRows(values, Options.ValueDim, nameof(values));
        if (keys.Lengths[0] != values.Lengths[0])
            throw new ArgumentException($"values is {values} and keys is {keys}: both must have the same number of tokens.", nameof(values));
        return (int)keys.Lengths[0];
    }

    private void CheckRows(in TensorLayout layout, int dim, string name)
    {
        if (layout.Rank != 3 || layout.Lengths[0] > int.MaxValue || layout.Lengths[1] != Options.KeyValueHeads || layout.Lengths[2] != dim)
            throw new ArgumentException($"{name} is {layout}, but must be [tokens, {Options.KeyValueHeads}, {dim}] for this cache.", name);
    }

    private int CheckRows(ReadOnlySpan<T> keys, ReadOnlySpan<T> values)
    {
        long keyWidth = (long)Options.KeyValueHeads * Options.KeyDim, valueWidth = (long)Options.KeyValueHeads * Options.ValueDim;
        long tokens = keys.Length / keyWidth;
        if (tokens * keyWidth != keys.Length)
            throw new ArgumentException($"keys has {keys.Length} elements, which is not a multiple of KeyValueHeads x KeyDim = {Options.KeyValueHeads} x {Options.KeyDim}.", nameof(keys));
        if (tokens * valueWidth != values.Length)
            throw new ArgumentException($"values has {values.Length} elements, but must have {tokens} x {Options.KeyValueHeads} x {Options.ValueDim}, as keys has {tokens} tokens.", nameof(values));
        return (int)tokens;
    }
}
