using FusedAttention.Devices;
using FusedAttention.Metal.Calls;
using FusedAttention.Metal.Memory;
using FusedAttention.Metal.Planning;
using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <summary>
/// A paged key/value cache in memory that processor and GPU share, for <see cref="MetalAttention"/>. New keys and values may come from tensors of the device, written by the GPU in the order of its queue,
/// or from spans, written by the processor.
/// </summary>
/// <remarks>
/// <para>With tensors nothing waits: appending, writing and attention are queued, and the next step may be queued behind them. A sequence may be truncated or freed, and its blocks given to another, as soon
/// as the calls that read it have returned.</para>
/// <para>Writing from spans first waits for all of the GPU's work on that layer; whoever reads the elements of <see cref="GetKeys"/> and <see cref="GetValues"/> waits for its writes. Copies on write are made
/// by the GPU while it is at work on the cache, and by the processor otherwise.</para>
/// <para>The cache may be disposed while the GPU works; its memory is given back afterwards. Tensors of it are refused from then on.</para>
/// </remarks>
/// <typeparam name="T">
/// <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>; or 8 bits, into which rows are quantized as they are written, each token and head by itself, by the rules of <see cref="KeyValueQuantization"/>: <see cref="sbyte"/> or
/// <see cref="Float8E4M3"/>, whose scales the cache keeps beside them. Rows of tensors are quantized by the GPU, with the same bits.
/// </typeparam>
public sealed partial class MetalPagedKeyValueCache<T> : KeyValueCache
    where T : unmanaged
{
    private readonly MetalBlockStorage _storage;
    private readonly MetalTensor<T>[] _keyTensors;
    private readonly MetalTensor<T>[] _valueTensors;
    private readonly MetalTensor<float>[]? _keyScaleTensors;
    private readonly MetalTensor<float>[]? _valueScaleTensors;

    /// <summary>Allocates the whole pool, keys and values of each layer on their own, and their scales.</summary>
    /// <param name="device">Where.</param>
    /// <param name="options">The sizes.</param>
    /// <exception cref="ArgumentException">The sizes do not fit the address space.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is none of the types that the GPU's caches hold: <see cref="Q8Block"/>, say.</exception>
    /// <exception cref="MetalException">The device does not give the memory.</exception>
    public MetalPagedKeyValueCache(MetalDevice device, PagedKeyValueCacheOptions options)
        : this(device, options, CreateStorage(device, options))
    {
    }

    private MetalPagedKeyValueCache(MetalDevice device, PagedKeyValueCacheOptions options, MetalBlockStorage storage)
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
    public MetalDevice Device { get; }

    /// <summary>A layer's keys, <c>[Blocks, BlockSize, KeyValueHeads, KeyDim]</c>. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public MetalTensor<T> GetKeys(int layer = 0)
    {
        CheckLayer(layer);
        return _keyTensors[layer];
    }

    /// <summary>A layer's values, <c>[Blocks, BlockSize, KeyValueHeads, ValueDim]</c>. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public MetalTensor<T> GetValues(int layer = 0)
    {
        CheckLayer(layer);
        return _valueTensors[layer];
    }

    /// <summary>
    /// The scales of a layer's keys, <c>[Blocks, BlockSize, KeyValueHeads]</c>: what a call over <see cref="GetKeys"/> has as <see cref="MetalOperands.KeyScale"/>. Null in a cache of another type than <see cref="sbyte"/> and
    /// <see cref="Float8E4M3"/>. Slots that were never written hold anything.
    /// </summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public MetalTensor<float>? GetKeyScales(int layer = 0)
    {
        CheckLayer(layer);
        return _keyScaleTensors?[layer];
    }

    /// <summary>The scales of a layer's values, <c>[Blocks, BlockSize, KeyValueHeads]</c>; as <see cref="GetKeyScales"/>.</summary>
    /// <inheritdoc cref="GetKeyScales"/>
    public MetalTensor<float>? GetValueScales(int layer = 0)
    {
        CheckLayer(layer);
        return _valueScaleTensors?[layer];
    }

    /// <summary>Compiles what writing tensors of the cache's type, or of float, into the cache runs, and for one of 8 bits tensors of any type, so that the first step does not wait for the compiler.</summary>
    /// <exception cref="MetalException">A kernel does not compile.</exception>
    public void Prepare() => Device.Prepare(CachePlan.Functions(_storage.Shape));

    private static MetalBlockStorage CreateStorage(MetalDevice device, PagedKeyValueCacheOptions options)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(options);
        return new(device, options, CacheFormat.OfDevice<T>(options));
    }

    private unsafe MetalTensor<T> TensorOver(int layer, int plane)
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Options.KeyValueHeads, _storage.Format.Planes[plane].Elements];
        return new(Device, _storage.MemoryOf(layer)[plane], ownsMemory: false, 0, ViewLayout.Contiguous(lengths, sizeof(T), nameof(Options)));
    }

    private MetalTensor<float> ScalesOver(int layer, int plane)
    {
        ReadOnlySpan<nint> lengths = [Options.Blocks, Options.BlockSize, Options.KeyValueHeads];
        return new(Device, _storage.MemoryOf(layer)[plane], ownsMemory: false, 0, ViewLayout.Contiguous(lengths, sizeof(float), nameof(Options)));
    }

    /// <summary>Queues the writing of rows into slots.</summary>
    private void Queue<TSource>(int layer, MetalTensor<TSource> keys, MetalTensor<TSource> values, SlotRuns runs)
        where TSource : unmanaged
    {
        var uses = new CallUses(Device);
        try
        {
            TokenPlace newKeys = PlaceOf(uses.Add(keys, nameof(keys), nameof(keys)), keys), newValues = PlaceOf(uses.Add(values, nameof(values), nameof(values)), values);
            uses.Add(_keyTensors[layer], "the cache", nameof(layer), isWritten: true);
            uses.Add(_valueTensors[layer], "the cache", nameof(layer), isWritten: true);
            if (_keyScaleTensors is not null) uses.Add(_keyScaleTensors[layer], "the cache", nameof(layer), isWritten: true);
            if (_valueScaleTensors is not null) uses.Add(_valueScaleTensors[layer], "the cache", nameof(layer), isWritten: true);
            _storage.Append(layer, runs, (int)keys.Lengths[0], ElementTypes.Of<TSource>(nameof(keys)), newKeys, newValues, uses.All);
        }
        finally
        {
            uses.Dispose();
        }

        static TokenPlace PlaceOf(MemoryPlace place, MetalTensor<TSource> rows)
        {
            TensorLayout layout = AttentionCall.LayoutOf(rows);
            return new(place, layout.Strides[0], layout.Strides[1]);
        }
    }
}
