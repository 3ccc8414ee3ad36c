using System.ComponentModel;
using System.Numerics.Tensors;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Storage;

namespace FusedAttention;

/// <summary>A paged key/value cache in host memory, for <see cref="Attention"/>. Everything but access to the memory is <see cref="KeyValueCache"/>'s.</summary>
/// <remarks>
/// Lifetime: <see cref="GetKeys"/> and <see cref="GetValues"/> are views of native memory that <see cref="KeyValueCache.Dispose"/> frees, and the finaliser if nobody disposed the cache. A
/// view must not be used after that: dispose the cache when no call runs (a <c>using</c> that encloses the calls does). Calls that are given the cache itself hold the memory while they run, and the block
/// tables of a living <see cref="PagedBatch"/> keep it alive.
/// </remarks>
/// <typeparam name="T">
/// <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>; or 8 bits, into which rows are quantized as they are written, each token and head by itself, by the rules of <see cref="KeyValueQuantization"/>: <see cref="sbyte"/> or
/// <see cref="Float8E4M3"/>, whose scales the cache keeps beside them, or <see cref="Q8Block"/>, whose dimensions must be multiples of 32.
/// </typeparam>
public sealed class PagedKeyValueCache<T> : KeyValueCache
    where T : unmanaged
{
    private readonly MappedBlockStorage _storage;

    /// <summary>Allocates the whole pool. The system gives memory to it as blocks are first written.</summary>
    /// <param name="options">The sizes.</param>
    /// <exception cref="ArgumentException">The sizes do not fit the address space, or a dimension is no multiple of a block's 32 numbers.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type of attention.</exception>
    /// <exception cref="OutOfMemoryException">The system refuses the memory.</exception>
    public PagedKeyValueCache(PagedKeyValueCacheOptions options)
        : this(options, prefixBuckets: 0)
    {
    }

    internal PagedKeyValueCache(PagedKeyValueCacheOptions options, int prefixBuckets)
        : this(options, CreateStorage(options), prefixBuckets)
    {
    }

    private PagedKeyValueCache(PagedKeyValueCacheOptions options, MappedBlockStorage storage, int prefixBuckets)
        : base(options, storage, prefixBuckets)
    {
        _storage = storage;
    }

    /// <summary>A layer's keys, <c>[Blocks, BlockSize, KeyValueHeads, KeyDim]</c>, or <c>KeyDim / 32</c> blocks. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public ReadOnlyTensorSpan<T> GetKeys(int layer = 0)
    {
        CheckLayer(layer);
        return _storage.View<T>(CacheFormat.Keys, layer);
    }

    /// <summary>A layer's values, <c>[Blocks, BlockSize, KeyValueHeads, ValueDim]</c>, or <c>ValueDim / 32</c> blocks. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public ReadOnlyTensorSpan<T> GetValues(int layer = 0)
    {
        CheckLayer(layer);
        return _storage.View<T>(CacheFormat.Values, layer);
    }

    /// <summary>The scales of a layer's keys, <c>[Blocks, BlockSize, KeyValueHeads]</c>: what a call over <see cref="GetKeys"/> has as <see cref="AttentionOperands.KeyScale"/>. Absent in a cache of another type than <see cref="sbyte"/> and <see cref="Float8E4M3"/>.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public ReadOnlyTensorSpan<float> GetKeyScales(int layer = 0)
    {
        CheckLayer(layer);
        return _storage.Format.HasScales ? _storage.ScalesView(CacheFormat.KeyScales, layer) : default;
    }

    /// <summary>The scales of a layer's values, <c>[Blocks, BlockSize, KeyValueHeads]</c>.</summary>
    /// <inheritdoc cref="GetKeyScales"/>
    public ReadOnlyTensorSpan<float> GetValueScales(int layer = 0)
    {
        CheckLayer(layer);
        return _storage.Format.HasScales ? _storage.ScalesView(CacheFormat.ValueScales, layer) : default;
    }

    /// <summary><see cref="GetKeys"/> by its first name.</summary>
    /// <inheritdoc cref="GetKeys"/>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public ReadOnlyTensorSpan<T> Keys(int layer = 0) => GetKeys(layer);

    /// <summary><see cref="GetValues"/> by its first name.</summary>
    /// <inheritdoc cref="GetValues"/>
    [EditorBrowsable(EditorBrowsableState.Never)]
    public ReadOnlyTensorSpan<T> Values(int layer = 0) => GetValues(layer);

    /// <summary>Appends packed rows of the cache's own element type, <c>[tokens, KeyValueHeads, dim]</c>: so that <c>[1, 2, 3]</c> is a row of it.</summary>
    /// <inheritdoc cref="KeyValueCache.Append{TSource}(CacheSequence, ReadOnlySpan{TSource}, ReadOnlySpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public int Append(CacheSequence sequence, ReadOnlySpan<T> keys, ReadOnlySpan<T> values) => Append<T>(sequence, keys, values);

    /// <summary>Writes packed rows of the cache's own element type, <c>[tokens, KeyValueHeads, dim]</c>, at positions that the sequence has.</summary>
    /// <inheritdoc cref="KeyValueCache.Write{TSource}(int, CacheSequence, int, ReadOnlySpan{TSource}, ReadOnlySpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public void Write(int layer, CacheSequence sequence, int position, ReadOnlySpan<T> keys, ReadOnlySpan<T> values) => Write<T>(layer, sequence, position, keys, values);

    /// <summary>Writes packed rows of the cache's own element type for a whole batch, <c>[batch.TotalQueries, KeyValueHeads, dim]</c>.</summary>
    /// <inheritdoc cref="KeyValueCache.Write{TSource}(int, PagedBatch, ReadOnlySpan{TSource}, ReadOnlySpan{TSource}, RotaryEmbedding, ReadOnlySpan{int})"/>
    public void Write(int layer, PagedBatch batch, ReadOnlySpan<T> keys, ReadOnlySpan<T> values) => Write<T>(layer, batch, keys, values);

    /// <summary>Keeps the memory of a layer until the lease is disposed, whatever other threads do.</summary>
    internal MappedBlockStorage.Lease Hold(int layer) => _storage.Hold(layer);

    private static HostBlockStorage CreateStorage(PagedKeyValueCacheOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        return new(options, CacheFormat.OfHost<T>(options));
    }
}
