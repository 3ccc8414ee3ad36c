using FusedAttention.Metal.Calls;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <content>Writing tensors of the device, by the GPU.</content>
public sealed partial class MetalPagedKeyValueCache<T>
{
    /// <summary>Appends one token or many to a sequence of a cache with one layer. The GPU copies them, in the order of its queue.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <returns>The position of the first new token.</returns>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks; nothing was changed.</exception>
    /// <exception cref="ArgumentException">A shape is not as described, a tensor is another device's or part of the cache, or the handle is stale.</exception>
    /// <exception cref="InvalidOperationException">The cache has more than one layer: use <see cref="PagedKeyValueCache{T}.Extend(CacheSequence, int)"/> and <c>Write</c>.</exception>
    /// <exception cref="MetalException">The work could not be queued; the sequence is as it was.</exception>
    /// <exception cref="ObjectDisposedException">The cache or a tensor is disposed.</exception>
    public int Append(CacheSequence sequence, MetalTensor<T> keys, MetalTensor<T> values)
    {
        ThrowIfManyLayers();
        int tokens = CheckTensors(keys, values);
        int position = Ledger.Extend(sequence, tokens);
        try
        {
            long[] slots = new long[tokens];
            SetSlots(sequence, position, slots);
            Queue(0, keys, values, slots);
            return position;
        }
        catch
        {
            if (Ledger.Contains(sequence)) Ledger.Truncate(sequence, position);
            throw;
        }
    }

    /// <summary>
    /// Writes keys and values of one layer at positions that the sequence has. The GPU copies them, in the order of its queue; a block that another sequence sees too is copied first, in all layers.
    /// </summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">The position of the first token written.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or the sequence does not have these positions, or has dropped them.</exception>
    /// <exception cref="ArgumentException">A shape is not as described, a tensor is another device's or part of the cache, or the handle is stale.</exception>
    /// <exception cref="MetalException">The work could not be queued.</exception>
    /// <exception cref="ObjectDisposedException">The cache or a tensor is disposed.</exception>
    public void Write(int layer, CacheSequence sequence, int position, MetalTensor<T> keys, MetalTensor<T> values)
    {
        CheckLayer(layer);
        int tokens = CheckTensors(keys, values);
        Ledger.PrepareWrite(sequence, position, tokens);
        long[] slots = new long[tokens];
        SetSlots(sequence, position, slots);
        Queue(layer, keys, values, slots);
    }

    /// <summary>
    /// Writes one layer's keys and values of a whole batch, in one launch: row <c>r</c> goes where row <c>r</c> of the batch's queries stands, so that <c>MetalAttention.ForwardPaged</c> can follow
    /// with the same batch. Shared blocks are copied first.
    /// </summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="batch">Sequences of this cache, each once, added with the query tokens that are its last ones.</param>
    /// <param name="keys"><c>[batch.TotalQueries, KeyValueHeads, KeyDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <param name="values"><c>[batch.TotalQueries, KeyValueHeads, ValueDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; nothing is written.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or a sequence of the batch has become shorter, or has dropped these tokens.</exception>
    /// <exception cref="ArgumentException">A shape is not as described, a tensor is another device's or part of the cache, the batch is another cache's or names a sequence twice, or a handle in it is stale.</exception>
    /// <exception cref="MetalException">The work could not be queued.</exception>
    /// <exception cref="ObjectDisposedException">The cache or a tensor is disposed.</exception>
    public void Write(int layer, PagedBatch batch, MetalTensor<T> keys, MetalTensor<T> values)
    {
        CheckLayer(layer);
        CheckBatch(batch, CheckTensors(keys, values));
        PagedSequences sequences = batch.Sequences;
        var named = new HashSet<CacheSequence>();
        foreach (CacheSequence sequence in batch.Handles)
        {
            // Its rows would have the same places twice, and the threads of one launch come in no order.
            if (!named.Add(sequence)) throw new ArgumentException($"The batch has {sequence} twice.", nameof(batch));
        }

        for (int i = 0; i < batch.Count; i++)
        {
            int count = sequences.CumulativeQueryLengths[i + 1] - sequences.CumulativeQueryLengths[i];
            Ledger.PrepareWrite(batch.Handles[i], sequences.ContextLengths[i] - count, count);
        }

        long[] slots = new long[batch.TotalQueries];
        for (int i = 0; i < batch.Count; i++)
        {
            int row = sequences.CumulativeQueryLengths[i];
            Span<long> own = slots.AsSpan(row, sequences.CumulativeQueryLengths[i + 1] - row);
            SetSlots(batch.Handles[i], sequences.ContextLengths[i] - own.Length, own);
        }

        Queue(layer, keys, values, slots);
    }

    /// <summary>Where the tokens from a position on lie: <c>block * BlockSize + slot in block</c>.</summary>
    private void SetSlots(CacheSequence sequence, int position, Span<long> slots)
    {
        if (slots.IsEmpty) return;
        int blockSize = Options.BlockSize;
        int first = position / blockSize, last = (position + slots.Length - 1) / blockSize;
        int[] blocks = new int[last - first + 1];
        Ledger.CopyBlocks(sequence, first, blocks);
        for (int i = 0; i < slots.Length; i++)
        {
            int at = position + i;
            slots[i] = ((long)blocks[(at / blockSize) - first] * blockSize) + (at % blockSize);
        }
    }

    /// <returns>How many tokens there are.</returns>
    private int CheckTensors(MetalTensor<T> keys, MetalTensor<T> values)
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        TensorLayout keyLayout = AttentionCall.LayoutOf(keys), valueLayout = AttentionCall.LayoutOf(values);
        int tokens = CheckRows(keyLayout, valueLayout);
        ArgumentChecks.ContiguousLast(keyLayout, nameof(keys));
        ArgumentChecks.ContiguousLast(valueLayout, nameof(values));
        CheckSource(keys, nameof(keys));
        CheckSource(values, nameof(values));
        return tokens;
    }

    private void CheckSource(MetalTensor<T> rows, string name)
    {
        if (rows.Device != Device) throw new ArgumentException($"{name} is a tensor of {rows.Device}, but the cache is on {Device}.", name);
        rows.ThrowIfClosed();
        for (int layer = 0; layer < Options.Layers; layer++)
        {
            if (rows.Memory == _memory.KeyMemory(layer) || rows.Memory == _memory.ValueMemory(layer))
                throw new ArgumentException($"{name} is a part of the cache: rows would be read and written at once.", name);
        }
    }
}
