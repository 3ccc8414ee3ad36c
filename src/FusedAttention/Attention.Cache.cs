using System.Numerics.Tensors;
using FusedAttention.Paging.Storage;

namespace FusedAttention;

/// <content>Attention over a cache that this library manages.</content>
public static unsafe partial class Attention
{
    /// <summary>
    /// Attention of a batch, <c>[batch.TotalQueries, heads, dim]</c>, over one layer of a cache: any number of query tokens a sequence, so that decoding, chunked prefill and whole prefills mix in one call. The cache's memory is held while the
    /// call runs.
    /// </summary>
    /// <typeparam name="TQuery">Element type of query and output.</typeparam>
    /// <typeparam name="T">Element type of the cache: that of the query, or <see cref="Half"/> or <see cref="BFloat16"/> under <see cref="float"/> queries, or one of 8 bits.</typeparam>
    /// <param name="query"><c>[batch.TotalQueries, heads, KeyDim]</c>.</param>
    /// <param name="output"><c>[batch.TotalQueries, heads, ValueDim]</c>; must not overlap an input or itself.</param>
    /// <param name="cache">Keys and values.</param>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="batch">Sequences of the cache, each with the query tokens that are its last ones.</param>
    /// <param name="options">Scale, mask and the rest; null for <see cref="AttentionOptions.Default"/>.</param>
    /// <param name="operands">Boolean mask, bias, query offsets, log-sum-exp output. Scales are the cache's.</param>
    /// <param name="execution">Threads and instruction set; null for <see cref="CpuExecution.Default"/>.</param>
    /// <param name="cancellationToken">Cancels the call between pieces of its work.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ArgumentException">
    /// A shape, stride, type or overlap is not as described; or the batch is another cache's, or a sequence of it was freed or shortened since it was added; or a query may see what its sequence has dropped.
    /// </exception>
    /// <exception cref="PlatformNotSupportedException">The instruction set that <paramref name="execution"/> names is not available.</exception>
    /// <exception cref="OperationCanceledException"><paramref name="cancellationToken"/> was cancelled; the output is undefined.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public static void ForwardPaged<TQuery, T>(
        scoped in ReadOnlyTensorSpan<TQuery> query,
        scoped in TensorSpan<TQuery> output,
        PagedKeyValueCache<T> cache,
        int layer,
        PagedBatch batch,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(cache);
        cache.PrepareRead(layer, batch);
        using MappedBlockStorage.Lease lease = cache.Hold(layer);
        if (typeof(T) != typeof(sbyte) && typeof(T) != typeof(Float8E4M3))
        {
            ForwardPaged(query, cache.GetKeys(layer), cache.GetValues(layer), output, batch.Sequences, options, operands, execution, cancellationToken);
            return;
        }

        if (!operands.KeyScale.IsEmpty || !operands.ValueScale.IsEmpty) throw new ArgumentException("KeyScale and ValueScale are the cache's own; expected none.", nameof(operands));
        AttentionOperands scaled = operands;
        scaled.KeyScale = cache.GetKeyScales(layer);
        scaled.ValueScale = cache.GetValueScales(layer);
        ForwardPaged(query, cache.GetKeys(layer), cache.GetValues(layer), output, batch.Sequences, options, scaled, execution, cancellationToken);
    }

    /// <summary>Attention of a batch over one layer of a cache, on tensors <c>[batch.TotalQueries, heads, dim]</c>.</summary>
    /// <inheritdoc cref="ForwardPaged{TQuery, T}(in ReadOnlyTensorSpan{TQuery}, in TensorSpan{TQuery}, PagedKeyValueCache{T}, int, PagedBatch, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    public static void ForwardPaged<TQuery, T>(
        Tensor<TQuery> query,
        Tensor<TQuery> output,
        PagedKeyValueCache<T> cache,
        int layer,
        PagedBatch batch,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(output);
        ForwardPaged(query.AsReadOnlyTensorSpan(), output.AsTensorSpan(), cache, layer, batch, options, operands, execution, cancellationToken);
    }

    /// <summary>Attention of a batch over one layer of a cache, on spans and arrays: rows of <c>[batch.TotalQueries, heads, dim]</c> one after the other, as many heads as the length of the query makes.</summary>
    /// <inheritdoc cref="ForwardPaged{TQuery, T}(in ReadOnlyTensorSpan{TQuery}, in TensorSpan{TQuery}, PagedKeyValueCache{T}, int, PagedBatch, AttentionOptions, in AttentionOperands, CpuExecution, CancellationToken)"/>
    public static void ForwardPaged<TQuery, T>(
        ReadOnlySpan<TQuery> query,
        Span<TQuery> output,
        PagedKeyValueCache<T> cache,
        int layer,
        PagedBatch batch,
        AttentionOptions? options = null,
        scoped in AttentionOperands operands = default,
        CpuExecution? execution = null,
        CancellationToken cancellationToken = default)
        where TQuery : unmanaged
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(cache);
        ArgumentNullException.ThrowIfNull(batch);
        int rows = batch.TotalQueries, keyDim = cache.Options.KeyDim, valueDim = cache.Options.ValueDim;
        long rowOfOneHead = (long)rows * keyDim, heads = rows == 0 ? cache.Options.KeyValueHeads : query.Length / rowOfOneHead;
        if (query.Length != heads * rowOfOneHead || heads == 0)
            throw new ArgumentException($"query has {query.Length} elements; expected [{rows}, heads, {keyDim}], a multiple of {rowOfOneHead}.", nameof(query));
        if (output.Length != rows * heads * valueDim)
            throw new ArgumentException($"output has {output.Length} elements; expected [{rows}, {heads}, {valueDim}], which is {rows * heads * valueDim}.", nameof(output));
        ForwardPaged(
            new ReadOnlyTensorSpan<TQuery>(query, [rows, (nint)heads, keyDim]), new TensorSpan<TQuery>(output, [rows, (nint)heads, valueDim]), cache, layer, batch, options, operands, execution, cancellationToken);
    }
}
