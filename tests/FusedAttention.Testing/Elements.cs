using System.Runtime.CompilerServices;

namespace FusedAttention.Testing;

/// <summary>Conversions and bits of the three element types, for code that is generic over them.</summary>
internal static class Elements
{
    public static AttentionElementType TypeOf<T>()
        where T : unmanaged
        => typeof(T) == typeof(float) ? AttentionElementType.Float32
            : typeof(T) == typeof(Half) ? AttentionElementType.Float16
            : typeof(T) == typeof(BFloat16) ? AttentionElementType.BFloat16
            : throw new NotSupportedException(typeof(T).Name);

    public static T From<T>(float value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float)) return Unsafe.BitCast<float, T>(value);
        if (typeof(T) == typeof(Half)) return Unsafe.BitCast<Half, T>((Half)value);
        if (typeof(T) == typeof(BFloat16)) return Unsafe.BitCast<BFloat16, T>((BFloat16)value);
        throw new NotSupportedException(typeof(T).Name);
    }

    public static float ToSingle<T>(T value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float)) return Unsafe.BitCast<T, float>(value);
        if (typeof(T) == typeof(Half)) return (float)Unsafe.BitCast<T, Half>(value);
        if (typeof(T) == typeof(BFloat16)) return Unsafe.BitCast<T, BFloat16>(value);
        throw new NotSupportedException(typeof(T).Name);
    }

    /// <summary>The nearest value of an element type, widened again.</summary>
    public static float Round(AttentionElementType type, float value) => type switch
    {
        AttentionElementType.Float16 => (float)(Half)value,
        AttentionElementType.BFloat16 => (BFloat16)value,
        _ => value,
    };

    /// <summary>The most negative finite value of an element type.</summary>
    public static float FiniteMinimum(AttentionElementType type) => type switch
    {
        AttentionElementType.Float16 => (float)Half.MinValue,
        AttentionElementType.BFloat16 => BFloat16.MinValue,
        _ => float.MinValue,
    };

    /// <summary>Half a unit in the last place at <paramref name="value"/>: what one correct rounding may cost.</summary>
    public static double HalfUlp(AttentionElementType type, double value)
    {
        (int fractionBits, int minExponent) = type switch
        {
            AttentionElementType.Float16 => (10, -14),
            AttentionElementType.BFloat16 => (7, -126),
            _ => (23, -126),
        };
        int exponent = value == 0 ? minExponent : Math.Max(Math.ILogB(value), minExponent);
        return Math.ScaleB(0.5, exponent - fractionBits);
    }

    /// <summary>The bits of an array of any element type, for exact comparison.</summary>
    public static byte[] Bytes<T>(ReadOnlySpan<T> values)
        where T : unmanaged
        => System.Runtime.InteropServices.MemoryMarshal.AsBytes(values).ToArray();

    public static T[] FromAll<T>(ReadOnlySpan<float> values)
        where T : unmanaged
    {
        var converted = new T[values.Length];
        for (int i = 0; i < values.Length; i++) converted[i] = From<T>(values[i]);
        return converted;
    }
}
