namespace FusedAttention;

/// <content>Attention over a cache that this library manages.</content>
public static unsafe partial class MetalAttention
{
    /// <summary>
    /// Attention of a batch, <c>[batch.TotalQueries, heads, dim]</c>, over one layer of a cache: any number of query tokens a sequence, so that decoding, chunked prefill and whole prefills mix in one call.
    /// </summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="T">Element type of the cache: that of the query, or <see cref="Half"/> or <see cref="BFloat16"/> under <see cref="float"/> queries, or one of 8 bits under any.</typeparam>
    /// <param name="query"><c>[batch.TotalQueries, heads, KeyDim]</c>.</param>
    /// <param name="output"><c>[batch.TotalQueries, heads, ValueDim]</c>; must not overlap an input or itself.</param>
    /// <param name="cache">Keys and values, on the device of the query.</param>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="batch">Sequences of the cache, each with the query tokens that are its last ones; read during the call.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, query offsets, log-sum-exp output. Scales are the cache's.</param>
    /// <param name="cancellationToken">Cancels the call until its work is queued, and not after.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ArgumentException">
    /// A shape, stride, type, device or overlap is not as described; or the batch is another cache's, or a sequence of it was freed or shortened since it was added; or a query may see what its
    /// sequence has dropped.
    /// </exception>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions.</exception>
    /// <exception cref="MetalException">A kernel does not compile, or the device gives no memory. What fails on the GPU later is thrown by what waits for it.</exception>
    /// <exception cref="ObjectDisposedException">The cache or a tensor is disposed.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled before the work was queued.</exception>
    public static void ForwardPaged<TQuery, T>(
        MetalTensor<TQuery> query,
        MetalTensor<TQuery> output,
        MetalPagedKeyValueCache<T> cache,
        int layer,
        PagedBatch batch,
        AttentionOptions? options = null,
        scoped in MetalOperands operands = default,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(cache);
        cache.PrepareRead(layer, batch);
        MetalOperands scaled = operands;
        if (cache.GetKeyScales(layer) is { } keyScale)
        {
            if (operands.KeyScale is not null || operands.ValueScale is not null) throw new ArgumentException("KeyScale and ValueScale are the cache's own; expected none.", nameof(operands));
            (scaled.KeyScale, scaled.ValueScale) = (keyScale, cache.GetValueScales(layer));
        }

        ForwardPaged(query, cache.GetKeys(layer), cache.GetValues(layer), output, batch.Sequences, options, scaled, cancellationToken);
    }
}
