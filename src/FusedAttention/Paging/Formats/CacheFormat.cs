using FusedAttention.Tensors;

namespace FusedAttention.Paging.Formats;

/// <summary>
/// What a layer of a cache consists of, and how rows of the caller become that. Whoever holds memory, be it the host or a device, allocates, copies and addresses planes without asking what they mean.
/// </summary>
/// <remarks>
/// Planes come in pairs, one of the keys and one of the values: the first pair is the keys and values themselves. A format with a scale for each token and head has a second pair of one element each.
/// </remarks>
internal sealed class CacheFormat
{
    /// <summary>The plane of the keys themselves.</summary>
    public const int Keys = 0;

    /// <summary>The plane of the values themselves.</summary>
    public const int Values = 1;

    private readonly CachePlane[] _planes;

    private CacheFormat(AttentionElementType elementType, int heads, CachePlane[] planes)
    {
        ElementType = elementType;
        Heads = heads;
        _planes = planes;
    }

    /// <summary>What keys and values are stored as.</summary>
    public AttentionElementType ElementType { get; }

    public int Heads { get; }

    public ReadOnlySpan<CachePlane> Planes => _planes;

    /// <summary>Keys and values as they are.</summary>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type of attention.</exception>
    public static CacheFormat Of<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged
    {
        if (typeof(T) != typeof(float) && typeof(T) != typeof(Half) && typeof(T) != typeof(BFloat16))
            throw new NotSupportedException($"A cache holds float, Half or BFloat16, not {typeof(T)}.");
        AttentionElementType type = ElementTypes.Of<T>(nameof(T));
        return new(type, options.KeyValueHeads, [new("keys", CachePart.Keys, type, options.KeyDim), new("values", CachePart.Values, type, options.ValueDim)]);
    }

    /// <summary>Bytes of a token in a plane, all heads.</summary>
    public long TokenBytes(int plane) => (long)Heads * _planes[plane].Elements * _planes[plane].ElementType.Size();

    /// <summary>Writes what tokens are in one plane.</summary>
    /// <param name="plane">Which.</param>
    /// <param name="rows">Rows of the plane's part.</param>
    /// <param name="firstToken">The first of them that is written.</param>
    /// <param name="tokens">How many are.</param>
    /// <param name="destination">Where the first token lies in the plane; the others follow.</param>
    public unsafe void Store(int plane, in TokenRows rows, long firstToken, int tokens, byte* destination) =>
        rows.CopyTo(_planes[plane].ElementType, destination, firstToken, tokens);
}
