using FusedAttention.Paging.Formats;
using FusedAttention.Paging.Ledger;

namespace FusedAttention.Paging.Storage;

/// <summary>The contents of a cache's blocks: for each layer the planes of the format. How large planes are and where slots lie in them is the same everywhere; where the memory is, is the derived class's.</summary>
internal abstract class BlockStorage : IBlockStorage
{
    private readonly long[] _tokenBytes;
    private readonly long[] _layerBytes;

    protected BlockStorage(PagedKeyValueCacheOptions options, CacheFormat format)
    {
        Options = options;
        Format = format;
        _tokenBytes = new long[format.Planes.Length];
        _layerBytes = new long[format.Planes.Length];
        try
        {
            checked
            {
                for (int plane = 0; plane < _tokenBytes.Length; plane++)
                {
                    _tokenBytes[plane] = format.TokenBytes(plane);
                    _layerBytes[plane] = Aligned((long)options.Blocks * options.BlockSize * _tokenBytes[plane]);
                    Bytes += _layerBytes[plane] * options.Layers;
                }

                _ = (nint)Bytes;
            }
        }
        catch (OverflowException e)
        {
            throw new ArgumentException($"A cache of these sizes does not fit the address space: {options}.", nameof(options), e);
        }
    }

    /// <summary>All layers together.</summary>
    public long Bytes { get; }

    public CacheFormat Format { get; }

    protected PagedKeyValueCacheOptions Options { get; }

    /// <summary>
    /// Converts and writes rows of the host into their slots, in every plane. When this returns, they have been read. Runs without the ledger's lock: nobody else writes the slots; and the memory stays,
    /// even if the cache is disposed meanwhile.
    /// </summary>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public abstract void Store(int layer, SlotRuns runs, in TokenRows keys, in TokenRows values);

    /// <summary>Reads slots into memory of the host, packed: plane after plane, in each of them the rows of <paramref name="runs"/> in their order. Waits for whoever writes them.</summary>
    /// <param name="layer">Which.</param>
    /// <param name="runs">The slots.</param>
    /// <param name="tokens">How many they are.</param>
    /// <param name="destination">As many tokens of all planes.</param>
    /// <exception cref="ObjectDisposedException">The memory is disposed.</exception>
    public abstract unsafe void Fetch(int layer, SlotRuns runs, int tokens, byte* destination);

    public abstract void CopyBlock(int from, int to, int slots);

    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Bytes of a layer's plane, whole cache lines.</summary>
    protected long LayerBytes(int plane) => _layerBytes[plane];

    /// <summary>Bytes of a slot in a plane.</summary>
    protected long SlotBytes(int plane) => _tokenBytes[plane];

    /// <summary>Where a slot lies in a plane, in bytes.</summary>
    protected long OffsetOf(int plane, int block, int slot) => (((long)block * Options.BlockSize) + slot) * _tokenBytes[plane];

    protected abstract void Dispose(bool disposing);

    private static long Aligned(long bytes) => checked(bytes + AlignedMemory.Alignment - 1) / AlignedMemory.Alignment * AlignedMemory.Alignment;
}
