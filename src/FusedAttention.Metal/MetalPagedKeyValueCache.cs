using FusedAttention.Devices;
using FusedAttention.Metal.Calls;
using FusedAttention.Metal.Memory;
using FusedAttention.Metal.Planning;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <summary>
/// A paged key/value cache in memory that processor and GPU share: everything that <see cref="PagedKeyValueCache{T}"/> does, for <see cref="MetalAttention"/>. New keys and values may come from tensors of
/// the device, written by the GPU in the order of its queue, or from spans, written by the processor.
/// </summary>
/// <remarks>
/// <para>One step of a model with one layer: <c>Append</c> the new tokens' keys and values, add the sequences to a <see cref="PagedBatch"/>, and call <c>MetalAttention.ForwardPaged</c> with
/// <see cref="KeyTensor"/>, <see cref="ValueTensor"/> and the batch's <see cref="PagedBatch.Sequences"/>. With tensors nothing waits: appending and attention are queued, and the next step may be
/// queued behind them. A sequence may be truncated or freed, and its blocks given to another, as soon as the calls that read it have returned.</para>
/// <para>Writing from spans, and the views <see cref="PagedKeyValueCache{T}.Keys"/> and <see cref="PagedKeyValueCache{T}.Values"/>, first wait for the GPU's work on that layer: all of it before
/// writing, its writes before reading. Copies on write are made by the GPU while it is at work on the cache, and by the processor otherwise.</para>
/// <para>The cache may be disposed while the GPU works; its memory is given back afterwards. Tensors of it are refused from then on.</para>
/// </remarks>
/// <typeparam name="T"><see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
public sealed partial class MetalPagedKeyValueCache<T> : PagedKeyValueCache<T>
    where T : unmanaged
{
    private readonly MetalBlockStorage<T> _memory;
    private readonly MetalTensor<T>[] _keyTensors;
    private readonly MetalTensor<T>[] _valueTensors;

    /// <summary>Allocates the whole pool, keys and values of each layer on their own.</summary>
    /// <param name="device">Where.</param>
    /// <param name="options">The sizes.</param>
    /// <exception cref="ArgumentException">The sizes do not fit the address space.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type of attention.</exception>
    /// <exception cref="MetalException">The device does not give the memory.</exception>
    public MetalPagedKeyValueCache(MetalDevice device, PagedKeyValueCacheOptions options)
        : base(options, StorageOn(device))
    {
        Device = device;
        _memory = (MetalBlockStorage<T>)Storage;
        _keyTensors = [.. Enumerable.Range(0, options.Layers).Select(layer => TensorOver(_memory.KeyMemory(layer), options.KeyDim))];
        _valueTensors = [.. Enumerable.Range(0, options.Layers).Select(layer => TensorOver(_memory.ValueMemory(layer), options.ValueDim))];
    }

    /// <summary>The device that has the memory.</summary>
    public MetalDevice Device { get; }

    /// <summary>A layer's keys, <c>[Blocks, BlockSize, KeyValueHeads, KeyDim]</c>, for <c>MetalAttention.ForwardPaged</c>. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public MetalTensor<T> KeyTensor(int layer = 0)
    {
        CheckLayer(layer);
        return _keyTensors[layer];
    }

    /// <summary>A layer's values, <c>[Blocks, BlockSize, KeyValueHeads, ValueDim]</c>, for <c>MetalAttention.ForwardPaged</c>. Slots that were never written hold anything.</summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public MetalTensor<T> ValueTensor(int layer = 0)
    {
        CheckLayer(layer);
        return _valueTensors[layer];
    }

    /// <summary>Compiles what writing tensors into the cache runs, so that the first step does not wait for the compiler.</summary>
    /// <exception cref="MetalException">A kernel does not compile.</exception>
    public void Prepare() => Device.Prepare(CachePlan.Functions(_memory.Shape));

    private static Func<PagedKeyValueCacheOptions, Paging.BlockStorage<T>> StorageOn(MetalDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return options => new MetalBlockStorage<T>(device, options);
    }

    private unsafe MetalTensor<T> TensorOver(SharedMemory memory, int dim) =>
        new(Device, memory, ownsMemory: false, 0, ViewLayout.Contiguous([Options.Blocks, Options.BlockSize, Options.KeyValueHeads, dim], sizeof(T), nameof(Options)));

    /// <summary>Queues the writing of rows into slots.</summary>
    private void Queue(int layer, MetalTensor<T> keys, MetalTensor<T> values, ReadOnlySpan<long> slots)
    {
        var uses = new CallUses(Device);
        try
        {
            TokenPlace newKeys = PlaceOf(uses.Add(keys, nameof(keys), nameof(keys)), keys), newValues = PlaceOf(uses.Add(values, nameof(values), nameof(values)), values);
            MemoryPlace keyCache = uses.Add(_keyTensors[layer], "the cache", nameof(layer), isWritten: true), valueCache = uses.Add(_valueTensors[layer], "the cache", nameof(layer), isWritten: true);
            using TransientPool.Rental transient = Device.Transient.Rent();
            if (CachePlan.Append(_memory.Shape, newKeys, newValues, keyCache, valueCache, slots, transient) is { } launch)
                Device.Submit([[launch]], transient, uses.All);
        }
        finally
        {
            uses.Dispose();
        }

        static TokenPlace PlaceOf(MemoryPlace place, MetalTensor<T> rows)
        {
            TensorLayout layout = AttentionCall.LayoutOf(rows);
            return new(place, layout.Strides[0], layout.Strides[1]);
        }
    }
}
