using System.Buffers;
using FusedAttention.Metal.Calls;
using FusedAttention.Paging.Ledger;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <content>Writing tensors of the device, of any element type, by the GPU.</content>
public sealed partial class MetalPagedKeyValueCache<T>
{
    /// <summary>Appends one token or many, <c>[tokens, KeyValueHeads, dim]</c>, to a sequence of a cache with one layer. The GPU copies them, in the order of its queue.</summary>
    /// <typeparam name="TSource">Element type of the rows: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>. The GPU converts them to that of the cache, to nearest with ties to even, or quantizes them by the rules of <see cref="KeyValueQuantization"/>.</typeparam>
    /// <param name="sequence">The sequence.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <returns>The position of the first new token.</returns>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks; nothing was changed.</exception>
    /// <exception cref="ArgumentException">A shape or element type is not as described, a tensor is another device's or part of the cache, or the handle is stale.</exception>
    /// <exception cref="InvalidOperationException">The cache has more than one layer: use <see cref="KeyValueCache.Extend(CacheSequence, int)"/> and <c>Write</c>.</exception>
    /// <exception cref="MetalException">The work could not be queued; the sequence is as it was.</exception>
    /// <exception cref="ObjectDisposedException">The cache or a tensor is disposed.</exception>
    public int Append<TSource>(CacheSequence sequence, MetalTensor<TSource> keys, MetalTensor<TSource> values)
        where TSource : unmanaged
    {
        ThrowIfManyLayers();
        int tokens = CheckTensors(keys, values);
        int[] rented = ArrayPool<int>.Shared.Rent(BlocksOf(tokens));
        try
        {
            Span<int> blocks = rented.AsSpan(0, BlocksOf(tokens));
            int position = Ledger.Extend(sequence, tokens, blocks);
            try
            {
                Queue(0, keys, values, new SlotRuns([0, tokens], [position + tokens], blocks, blocks.Length, position / Options.BlockSize, Options.BlockSize));
                return position;
            }
            catch
            {
                // Tokens without contents must not be left behind.
                Ledger.TryTakeBack(sequence, position, Ledger.Version);
                throw;
            }
        }
        finally
        {
            ArrayPool<int>.Shared.Return(rented);
        }
    }

    /// <summary>
    /// Writes keys and values of one layer, <c>[tokens, KeyValueHeads, dim]</c>, at positions that the sequence has. The GPU copies them, in the order of its queue; a block that another sequence sees too is copied first, in all layers.
    /// </summary>
    /// <typeparam name="TSource">Element type of the rows: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>. The GPU converts them to that of the cache, to nearest with ties to even, or quantizes them by the rules of <see cref="KeyValueQuantization"/>.</typeparam>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="position">The position of the first token written.</param>
    /// <param name="keys"><c>[tokens, KeyValueHeads, KeyDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <param name="values"><c>[tokens, KeyValueHeads, ValueDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or the sequence does not have these positions, or has dropped them.</exception>
    /// <exception cref="ArgumentException">A shape or element type is not as described, a tensor is another device's or part of the cache, or the handle is stale.</exception>
    /// <exception cref="MetalException">The work could not be queued.</exception>
    /// <exception cref="ObjectDisposedException">The cache or a tensor is disposed.</exception>
    public void Write<TSource>(int layer, CacheSequence sequence, int position, MetalTensor<TSource> keys, MetalTensor<TSource> values)
        where TSource : unmanaged
    {
        CheckLayer(layer);
        int tokens = CheckTensors(keys, values);
        int[] rented = ArrayPool<int>.Shared.Rent(BlocksOf(tokens));
        try
        {
            Span<int> blocks = rented.AsSpan(0, BlocksOf(tokens));
            Ledger.PrepareWrite(sequence, layer, position, tokens, blocks);
            Queue(layer, keys, values, new SlotRuns([0, tokens], [position + tokens], blocks, blocks.Length, position / Options.BlockSize, Options.BlockSize));
        }
        finally
        {
            ArrayPool<int>.Shared.Return(rented);
        }
    }

    /// <summary>
    /// Writes one layer's keys and values of a whole batch, <c>[batch.TotalQueries, KeyValueHeads, dim]</c>, in one launch: row <c>r</c> goes where row <c>r</c> of the batch's queries stands, so that <c>MetalAttention.ForwardPaged</c> can follow
    /// with the same batch. Shared blocks are copied first. The bookkeeping is asked once a call, and does nothing from the second layer of a step on.
    /// </summary>
    /// <typeparam name="TSource">Element type of the rows: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>. The GPU converts them to that of the cache, to nearest with ties to even, or quantizes them by the rules of <see cref="KeyValueQuantization"/>.</typeparam>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="batch">Sequences of this cache, each once, added with the query tokens that are its last ones.</param>
    /// <param name="keys"><c>[batch.TotalQueries, KeyValueHeads, KeyDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <param name="values"><c>[batch.TotalQueries, KeyValueHeads, ValueDim]</c>; any strides with a contiguous last dimension. No part of the cache itself.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; nothing was changed.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or a sequence of the batch has dropped these tokens.</exception>
    /// <exception cref="ArgumentException">A shape or element type is not as described, a tensor is another device's or part of the cache, or the batch is another cache's, has rows for a sequence twice, or a sequence of it was freed or shortened since it was added.</exception>
    /// <exception cref="MetalException">The work could not be queued.</exception>
    /// <exception cref="ObjectDisposedException">The cache or a tensor is disposed.</exception>
    public void Write<TSource>(int layer, PagedBatch batch, MetalTensor<TSource> keys, MetalTensor<TSource> values)
        where TSource : unmanaged
    {
        CheckLayer(layer);
        Queue(layer, keys, values, PrepareWrite(layer, batch, CheckTensors(keys, values)));
    }

    /// <summary>As many blocks as so many tokens can lie in, wherever in a block they begin.</summary>
    private int BlocksOf(int tokens) => tokens == 0 ? 0 : (int)(((long)tokens + (2 * Options.BlockSize) - 2) / Options.BlockSize);

    /// <returns>How many tokens there are.</returns>
    private int CheckTensors<TSource>(MetalTensor<TSource> keys, MetalTensor<TSource> values)
        where TSource : unmanaged
    {
        ArgumentNullException.ThrowIfNull(keys);
        ArgumentNullException.ThrowIfNull(values);
        ElementTypes.Of<TSource>(nameof(keys));
        TensorLayout keyLayout = AttentionCall.LayoutOf(keys), valueLayout = AttentionCall.LayoutOf(values);
        int tokens = CheckRows(keyLayout, valueLayout);
        ArgumentChecks.ContiguousLast(keyLayout, nameof(keys));
        ArgumentChecks.ContiguousLast(valueLayout, nameof(values));
        CheckSource(keys, nameof(keys));
        CheckSource(values, nameof(values));
        return tokens;
    }

    private void CheckSource(MetalTensor rows, string name)
    {
        if (rows.Device != Device) throw new ArgumentException($"{name} is a tensor of {rows.Device}, but the cache is on {Device}.", name);
        rows.ThrowIfClosed();
        for (int layer = 0; layer < Options.Layers; layer++)
        {
            if (_storage.MemoryOf(layer).Contains(rows.Memory))
                throw new ArgumentException($"{name} is a part of the cache: rows would be read and written at once.", name);
        }
    }
}
