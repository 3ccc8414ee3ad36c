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

    /// <summary>The plane of the keys' scales, where codes have scales beside them.</summary>
    public const int KeyScales = 2;

    /// <summary>The plane of the values' scales.</summary>
    public const int ValueScales = 3;

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

    /// <summary>Whether scales lie beside keys and values, one for each token and head.</summary>
    public bool HasScales => _planes.Length > KeyScales;

    /// <summary>Keys and values as they are.</summary>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type of attention.</exception>
    public static CacheFormat Of<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged
        => IsWide<T>() ? Of(ElementTypes.Of<T>(nameof(T)), options) : throw new NotSupportedException($"A cache holds float, Half or BFloat16, not {typeof(T)}.");

    /// <summary>The same, or 8-bit codes with scales beside them: in the memory of a device whose kernels take those.</summary>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type of such a device's caches.</exception>
    public static CacheFormat OfDevice<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged
        => IsWide<T>() || typeof(T) == typeof(sbyte) || typeof(T) == typeof(Float8E4M3) ? Of(ElementTypes.OfKeyValue<T>(nameof(T)), options)
            : throw new NotSupportedException($"A cache of this device holds float, Half, BFloat16, sbyte or Float8E4M3, not {typeof(T)}.");

    /// <summary>The same, or 8-bit codes: in host memory.</summary>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type of attention.</exception>
    /// <exception cref="ArgumentException">A dimension is no multiple of what blocks hold.</exception>
    public static CacheFormat OfHost<T>(PagedKeyValueCacheOptions options)
        where T : unmanaged
    {
        if (IsWide<T>()) return Of<T>(options);
        if (typeof(T) != typeof(sbyte) && typeof(T) != typeof(Float8E4M3) && typeof(T) != typeof(Q8Block))
            throw new NotSupportedException($"A cache holds float, Half, BFloat16, sbyte, Float8E4M3 or Q8Block, not {typeof(T)}.");
        AttentionElementType type = ElementTypes.OfKeyValue<T>(nameof(T));
        if (options.KeyDim % type.Numbers() != 0 || options.ValueDim % type.Numbers() != 0)
            throw new ArgumentException($"A cache of {typeof(T).Name} needs dimensions that are multiples of {type.Numbers()}; KeyDim is {options.KeyDim} and ValueDim {options.ValueDim}.", nameof(options));
        return Of(type, options);
    }

    /// <summary>Bytes of a token in a plane, all heads.</summary>
    public long TokenBytes(int plane) => (long)Heads * _planes[plane].Elements * _planes[plane].ElementType.Size();

    /// <summary>Writes what tokens are in the planes of keys, or in those of values.</summary>
    /// <param name="part">Which.</param>
    /// <param name="rows">Rows of that part.</param>
    /// <param name="firstToken">The first of them that is written.</param>
    /// <param name="tokens">How many are.</param>
    /// <param name="destination">Where the first token lies in the plane of the part itself; the others follow.</param>
    /// <param name="scales">Where its scales lie; null where there are none.</param>
    public unsafe void Store(CachePart part, in TokenRows rows, long firstToken, int tokens, byte* destination, float* scales)
    {
        AttentionElementType type = _planes[(int)part].ElementType;
        if (type.IsEightBit()) rows.QuantizeTo(type, destination, scales, firstToken, tokens);
        else rows.CopyTo(type, destination, firstToken, tokens);
    }

    private static bool IsWide<T>() => typeof(T) == typeof(float) || typeof(T) == typeof(Half) || typeof(T) == typeof(BFloat16);

    private static CacheFormat Of(AttentionElementType type, PagedKeyValueCacheOptions options)
    {
        CachePlane keys = new("keys", CachePart.Keys, type, options.KeyDim / type.Numbers()), values = new("values", CachePart.Values, type, options.ValueDim / type.Numbers());
        return new(type, options.KeyValueHeads, !type.TakesScales() ? [keys, values]
            : [keys, values, new("scales of keys", CachePart.Keys, AttentionElementType.Float32, 1), new("scales of values", CachePart.Values, AttentionElementType.Float32, 1)]);
    }
}
