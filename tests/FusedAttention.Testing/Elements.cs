using System.Runtime.CompilerServices;

namespace FusedAttention.Testing;

/// <summary>Conversions and bits of the element types, for code that is generic over them.</summary>
internal static class Elements
{
    /// <summary>The types of more than 8 bits: of queries, outputs and biases, and of all tensors on GPUs.</summary>
    public static AttentionElementType[] Wide { get; } = [AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];

    /// <summary>How many numbers an element of a tensor holds: one, or those of a block.</summary>
    public static int Numbers(AttentionElementType type) => type == AttentionElementType.Q8Block ? Q8Block.Length : 1;

    public static AttentionElementType TypeOf<T>()
        where T : unmanaged
        => typeof(T) == typeof(float) ? AttentionElementType.Float32
            : typeof(T) == typeof(Half) ? AttentionElementType.Float16
            : typeof(T) == typeof(BFloat16) ? AttentionElementType.BFloat16
            : typeof(T) == typeof(sbyte) ? AttentionElementType.Int8
            : typeof(T) == typeof(Float8E4M3) ? AttentionElementType.Float8E4M3
            : throw new NotSupportedException(typeof(T).Name);

    public static T From<T>(float value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float)) return Unsafe.BitCast<float, T>(value);
        if (typeof(T) == typeof(Half)) return Unsafe.BitCast<Half, T>((Half)value);
        if (typeof(T) == typeof(BFloat16)) return Unsafe.BitCast<BFloat16, T>((BFloat16)value);
        if (typeof(T) == typeof(sbyte)) return Unsafe.BitCast<sbyte, T>((sbyte)value);
        if (typeof(T) == typeof(Float8E4M3)) return Unsafe.BitCast<Float8E4M3, T>((Float8E4M3)value);
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
        AttentionElementType.Float8E4M3 => (Float8E4M3)value,
        AttentionElementType.Int8 or AttentionElementType.Q8Block => Math.Clamp(MathF.Round(value), -128, 127),
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
