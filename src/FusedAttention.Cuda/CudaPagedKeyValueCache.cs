using FusedAttention.Devices;
using FusedAttention.Cuda.Calls;
using FusedAttention.Cuda.Memory;
using FusedAttention.Cuda.Planning;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <summary>
/// A paged key/value cache in the memory of a CUDA device, for <see cref="CudaAttention"/>. New keys and values may come from tensors of the device, or from spans of the host, which are copied.
/// </summary>
/// <remarks>
/// <para>Nothing waits: appending, writing and attention are queued, and the next step may be queued behind them. Spans have been read when a call returns. A sequence may be truncated or freed, and its
/// blocks given to another, as soon as the calls that read it have returned.</para>
/// <para>Rows of tensors are written on the stream that the call names, rows of spans and copies on write on the device's <see cref="CudaDevice.DefaultStream"/>; calls on different streams that use the same
/// layer are kept in order on the device. Write from tensors, on the stream of the step, where steps overlap with other work, and where a stream is being captured: spans and copies are no part of a
/// graph.</para>
/// <para>The cache may be disposed while the GPU works; its memory is given back afterwards. Tensors of it are refused from then on.</para>
/// </remarks>
/// <typeparam name="T">
/// <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>; or 8 bits, into which rows are quantized as they are written, each token and head by itself, by the rules of <see cref="KeyValueQuantization"/>: <see cref="sbyte"/> or
/// <see cref="Float8E4M3"/>, whose scales the cache keeps beside them. Rows of tensors are quantized by the GPU, with the same bits.
/// </typeparam>
public sealed partial class CudaPagedKeyValueCache<T> : KeyValueCache
    where T : unmanaged
{
    private readonly CudaBlockStorage _storage;
    private readonly CudaTensor<T>[] _keyTensors;
    private readonly CudaTensor<T>[] _valueTensors;
    private readonly CudaTensor<float>[]? _keyScaleTensors;
    private readonly CudaTensor<float>[]? _valueScaleTensors;

    /// <summary>Allocates the whole pool, keys and values of each layer on their own, and their scales.</summary>
    /// <param name="device">Where.</param>
    /// <param name="options">The sizes.</param>
    /// <exception cref="ArgumentException">The sizes do not fit the address space.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is none of the types that the GPU's caches hold: <see cref="Q8Block"/>, say.</exception>
    /// <exception cref="CudaException">The device does not give the memory.</exception>
    public CudaPagedKeyValueCache(CudaDevice device, PagedKeyValueCacheOptions options)
        : this(device, options, CreateStorage(device, options))
    {
    }

    private CudaPagedKeyValueCache(CudaDevice device, PagedKeyValueCacheOptions options, CudaBlockStorage storage)
        : base(options, storage)
    {
        Device = device;
        _storage = storage;
        IEnumerable<int> layers = Enumerable.Range(0, options.Layers);
        _keyTensors = [.. layers.Select(layer => TensorOver(layer, CacheFormat.Keys))];
        _valueTensors = [.. layers.Select(layer => TensorOver(layer, CacheFormat.Values))];
        if (!storage.Format.HasScales) return;
        _keyScaleTensors = [.. layers.Select(layer => ScalesOver(layer, CacheFormat.KeyScales))];
        _valueScaleTensors = [.. layers.Select(layer => ScalesOver(layer, CacheFormat.ValueScales))];
    }

    /// <summary>The device that has the memory.</summary>
    public CudaDevice Device { get; }

    /// <summary>A layer's keys, <c>[Blocks, BlockSize, KeyValueHeads, KeyDim]</c>. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public CudaTensor<T> GetKeys(int layer = 0)
    {
        CheckLayer(layer);
        return _keyTensors[layer];
    }

    /// <summary>A layer's values, <c>[Blocks, BlockSize, KeyValueHeads, ValueDim]</c>. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public CudaTensor<T> GetValues(int layer = 0)
    {
        CheckLayer(layer);
        return _valueTensors[layer];
    }

    /// <summary>
    /// The scales of a layer's keys, <c>[Blocks, BlockSize, KeyValueHeads]</c>: what a call over <see cref="GetKeys"/> has as <see cref="CudaOperands.KeyScale"/>. Null in a cache of another type than <see cref="sbyte"/> and
    /// <see cref="Float8E4M3"/>. Slots that were never written hold anything.
    /// </summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public CudaTensor<float>? GetKeyScales(int layer = 0)
    {
        CheckLayer(layer);
        return _keyScaleTensors?[layer];
    }

    /// <summary>The scales of a layer's values, <c>[Blocks, BlockSize, KeyValueHeads]</c>; as <see cref="GetKeyScales"/>.</summary>
    /// <inheritdoc cref="GetKeyScales"/>
    public CudaTensor<float>? GetValueScales(int layer = 0)
    {
        CheckLayer(layer);
        return _valueScaleTensors?[layer];
    }

    /// <summary>Writes and loads the kernels that writing tensors of the cache's type, or of float, into the cache runs, and for one of 8 bits those for tensors of any type, so that the first step does not wait for that.</summary>
    /// <exception cref="CudaException">The driver refuses a kernel; the message has its log.</exception>
    public void Prepare() => Device.Prepare(CachePlan.FunctionsOf(ElementType).AsSpan());

    private static CudaBlockStorage CreateStorage(CudaDevice device, PagedKeyValueCacheOptions options)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(options);
        return new(device, options, CacheFormat.OfDevice<T>(options));
    }

    private unsafe CudaTensor<T> TensorOver(int layer, int plane)
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Options.KeyValueHeads, _storage.Format.Planes[plane].Elements];
        return new(_storage.MemoryOf(layer)[plane], ownsMemory: false, 0, ViewLayout.Contiguous(lengths, sizeof(T), nameof(Options)));
    }

    private CudaTensor<float> ScalesOver(int layer, int plane)
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Options.KeyValueHeads];
        return new(_storage.MemoryOf(layer)[plane], ownsMemory: false, 0, ViewLayout.Contiguous(lengths, sizeof(float), nameof(Options)));
    }

    /// <summary>Queues the writing of rows into slots.</summary>
    private void Queue<TSource>(int layer, CudaTensor<TSource> keys, CudaTensor<TSource> values, SlotRuns runs, CudaStream stream)
        where TSource : unmanaged
    {
        int tokens = (int)keys.Lengths[0];
        if (tokens == 0) return;
        var uses = new CallUses(Device);
        try
        {
            TokenPlace newKeys = PlaceOf(uses.Add(keys, nameof(keys), nameof(keys)), keys), newValues = PlaceOf(uses.Add(values, nameof(values), nameof(values)), values);
            uses.Add(_keyTensors[layer], "the cache", nameof(layer), isWritten: true);
            uses.Add(_valueTensors[layer], "the cache", nameof(layer), isWritten: true);
            if (_keyScaleTensors is not null) uses.Add(_keyScaleTensors[layer], "the cache", nameof(layer), isWritten: true);
            if (_valueScaleTensors is not null) uses.Add(_valueScaleTensors[layer], "the cache", nameof(layer), isWritten: true);
            _storage.Append(stream, layer, runs, tokens, ElementTypes.Of<TSource>(nameof(keys)), newKeys, newValues, uses.All);
        }
        finally
        {
            uses.Dispose();
        }

        static TokenPlace PlaceOf(MemoryPlace place, CudaTensor<TSource> rows)
        {
            TensorLayout layout = AttentionCall.LayoutOf(rows);
            return new(place, layout.Strides[0], layout.Strides[1]);
        }
    }
}
