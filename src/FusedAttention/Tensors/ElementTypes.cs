using System.Runtime.CompilerServices;

namespace FusedAttention.Tensors;

/// <summary>What is to be known of element types, in one place. A type that is not named here is refused: no switch over element types has a default that computes.</summary>
internal static class ElementTypes
{
    /// <summary>The element type of a .NET type.</summary>
    /// <param name="name">The argument, for the message.</param>
    /// <exception cref="ArgumentException">Attention does not compute on the type.</exception>
    public static AttentionElementType Of<T>(string name)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float)) return AttentionElementType.Float32;
        if (typeof(T) == typeof(Half)) return AttentionElementType.Float16;
        if (typeof(T) == typeof(BFloat16)) return AttentionElementType.BFloat16;
        throw new ArgumentException($"{name} has elements of type {typeof(T).Name}; attention computes on float, Half and BFloat16.", name);
    }

    /// <summary>Bytes of an element.</summary>
    /// <remarks>Asked for twice a row by whoever finds its address: as a call it took 0.5 % of a prefill of 512 tokens (AVX-512, D = 64).</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Size(this AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => sizeof(float),
        AttentionElementType.Float16 => sizeof(ushort),
        AttentionElementType.BFloat16 => sizeof(ushort),
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
}
