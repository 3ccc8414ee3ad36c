using System.Runtime.CompilerServices;

namespace FusedAttention.Tensors;

/// <summary>What is to be known of element types, in one place. A type that is not named here is refused: no switch over element types has a default that computes.</summary>
internal static class ElementTypes
{
    /// <summary>The types of more than 8 bits: those of queries and outputs, and of all tensors on GPUs.</summary>
    public static ReadOnlySpan<AttentionElementType> Wide => [AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];

    /// <summary>The element type of a .NET type of queries, outputs and everything else that is not 8-bit keys or values.</summary>
    /// <param name="name">The argument, for the message.</param>
    /// <exception cref="ArgumentException">It is none of <see cref="float"/>, <see cref="Half"/> and <see cref="BFloat16"/>.</exception>
    public static AttentionElementType Of<T>(string name)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float)) return AttentionElementType.Float32;
        if (typeof(T) == typeof(Half)) return AttentionElementType.Float16;
        if (typeof(T) == typeof(BFloat16)) return AttentionElementType.BFloat16;
        if (EightBit<T>() is not null) throw new ArgumentException($"{name} has elements of type {typeof(T).Name}; 8-bit types are for keys and values, and this is to be of float, Half or BFloat16.", name);
        throw new ArgumentException($"{name} has elements of type {typeof(T).Name}; attention computes on float, Half and BFloat16.", name);
    }

    /// <summary>The element type of a .NET type of keys and values, 8-bit ones included.</summary>
    /// <inheritdoc cref="Of{T}"/>
    /// <exception cref="ArgumentException">Attention does not compute on the type.</exception>
    public static AttentionElementType OfKeyValue<T>(string name)
        where T : unmanaged
        => EightBit<T>() ?? Of<T>(name);

    /// <summary>Whether elements are of 8 bits, with scales beside or among them.</summary>
    public static bool IsEightBit(this AttentionElementType type) => type is AttentionElementType.Int8 or AttentionElementType.Float8E4M3 or AttentionElementType.Q8Block;

    /// <summary>Whether scales may lie beside the elements.</summary>
    public static bool TakesScales(this AttentionElementType type) => type is AttentionElementType.Int8 or AttentionElementType.Float8E4M3;

    /// <summary>How many numbers an element holds: one, or those of a block.</summary>
    public static int Numbers(this AttentionElementType type) => type == AttentionElementType.Q8Block ? Q8Block.Length : 1;

    /// <summary>Bytes of so many numbers of a row, whole elements.</summary>
    public static int RowBytes(this AttentionElementType type, int numbers) => numbers / type.Numbers() * type.Size();

    /// <summary>Bytes of an element: of a block of numbers where the type has blocks. Strides count elements.</summary>
    /// <remarks>Asked for twice a row by whoever finds its address: as a call it took 0.5 % of a prefill of 512 tokens (AVX-512, D = 64).</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Size(this AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => sizeof(float),
        AttentionElementType.Float16 => sizeof(ushort),
        AttentionElementType.BFloat16 => sizeof(ushort),
        AttentionElementType.Int8 => sizeof(sbyte),
        AttentionElementType.Float8E4M3 => sizeof(byte),
        AttentionElementType.Q8Block => Q8Block.SizeInBytes,
        _ => throw Unknown(type),
    };

    /// <summary>The bits of negative infinity, with which a bias excludes a key.</summary>
    public static uint NegativeInfinity(this AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => 0xFF800000,
        AttentionElementType.Float16 => 0xFC00,
        AttentionElementType.BFloat16 => 0xFF80,
        _ => throw Unknown(type),
    };

    /// <summary>What a switch over element types throws for one that it does not know.</summary>
    public static Exception Unknown(AttentionElementType type) => new ArgumentOutOfRangeException(nameof(type), type, $"There is no kernel for element type {type}.");

    private static AttentionElementType? EightBit<T>()
        where T : unmanaged
    {
        if (typeof(T) == typeof(sbyte)) return AttentionElementType.Int8;
        if (typeof(T) == typeof(Float8E4M3)) return AttentionElementType.Float8E4M3;
        return typeof(T) == typeof(Q8Block) ? AttentionElementType.Q8Block : null;
    }
}
