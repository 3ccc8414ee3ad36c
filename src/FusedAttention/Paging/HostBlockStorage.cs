using System.Numerics.Tensors;

namespace FusedAttention.Paging;

/// <summary>The contents of a cache's blocks in host memory: for each layer, keys <c>[blocks, blockSize, kvHeads, keyDim]</c>, and after all of them the values likewise.</summary>
internal sealed unsafe class HostBlockStorage<T> : IBlockStorage, IDisposable
    where T : unmanaged
{
    private readonly PagedKeyValueCacheOptions _options;
    private readonly AlignedMemory _memory;
    private readonly long _keyLayerBytes;
    private readonly long _valueLayerBytes;

    public HostBlockStorage(PagedKeyValueCacheOptions options)
    {
        _options = options;
        try
        {
            checked
            {
                long heads = (long)options.Blocks * options.BlockSize * options.KeyValueHeads;
                _keyLayerBytes = Aligned(heads * options.KeyDim * sizeof(T));
                _valueLayerBytes = Aligned(heads * options.ValueDim * sizeof(T));
                Bytes = (_keyLayerBytes + _valueLayerBytes) * options.Layers;
                _ = (nint)Bytes;
            }
        }
        catch (OverflowException e)
        {
            throw new ArgumentException($"A cache of these sizes does not fit the address space: {options}.", nameof(options), e);
        }

        _memory = new(Bytes);
    }

    public long Bytes { get; }

    public bool IsDisposed => _memory.IsClosed;

    public ReadOnlyTensorSpan<T> Keys(int layer) => View(KeysOf(layer), _options.KeyDim);

    public ReadOnlyTensorSpan<T> Values(int layer) => View(ValuesOf(layer), _options.ValueDim);

    public AlignedMemory.Lease Hold() => _memory.Hold();

    /// <summary>Where a layer's keys of a slot begin.</summary>
    public T* Key(int layer, int block, int slot) => KeysOf(layer) + (RowOf(block, slot) * _options.KeyDim);

    /// <summary>Where a layer's values of a slot begin.</summary>
    public T* Value(int layer, int block, int slot) => ValuesOf(layer) + (RowOf(block, slot) * _options.ValueDim);

    public void CopyBlock(int from, int to, int slots)
    {
        using AlignedMemory.Lease lease = Hold();
        long rows = (long)slots * _options.KeyValueHeads;
        long keyBytes = rows * _options.KeyDim * sizeof(T), valueBytes = rows * _options.ValueDim * sizeof(T);
        for (int layer = 0; layer < _options.Layers; layer++)
        {
            Buffer.MemoryCopy(Key(layer, from, 0), Key(layer, to, 0), keyBytes, keyBytes);
            Buffer.MemoryCopy(Value(layer, from, 0), Value(layer, to, 0), valueBytes, valueBytes);
        }
    }

    public void Dispose() => _memory.Dispose();

    private static long Aligned(long bytes) => checked(bytes + AlignedMemory.Alignment - 1) / AlignedMemory.Alignment * AlignedMemory.Alignment;

    private T* KeysOf(int layer) => (T*)(_memory.Pointer + (layer * _keyLayerBytes));

    private T* ValuesOf(int layer) => (T*)(_memory.Pointer + (_options.Layers * _keyLayerBytes) + (layer * _valueLayerBytes));

    private long RowOf(int block, int slot) => (((long)block * _options.BlockSize) + slot) * _options.KeyValueHeads;

    private ReadOnlyTensorSpan<T> View(T* first, int dim)
    {
        ReadOnlySpan<nint> lengths = [_options.Blocks, _options.BlockSize, _options.KeyValueHeads, dim];
        return new(first, (nint)((long)_options.Blocks * _options.BlockSize * _options.KeyValueHeads * dim), lengths);
    }
}
