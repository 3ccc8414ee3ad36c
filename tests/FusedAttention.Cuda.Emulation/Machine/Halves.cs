using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>A format of 16 bits, in the low half of each lane.</summary>
internal interface IHalf
{
    /// <summary>Exact; the high half of a lane does not count.</summary>
    static abstract Vector512<float> Widen(Vector512<uint> halves);

    /// <summary>The nearest, ties to even; NaN is 0x7FFF.</summary>
    static abstract Vector512<uint> Narrow(Vector512<float> values);

    /// <summary>The largest finite value.</summary>
    static abstract float Largest { get; }

    static abstract float WidenOne(ushort half);

    static abstract ushort NarrowOne(float value);
}

/// <summary>IEEE binary16.</summary>
internal readonly struct Binary16 : IHalf
{
    public static float Largest => 65504;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Widen(Vector512<uint> halves)
    {
        Vector512<uint> magnitude = (halves & Vector512.Create(0x7FFFu)) << 13, sign = (halves & Vector512.Create(0x8000u)) << 16;

        // The exponent is 112 too small, which a product mends, subnormals included.
        Vector512<uint> finite = (magnitude.AsSingle() * Vector512.Create(5.192296858534828e33f)).AsUInt32();
        Vector512<uint> isSpecial = Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(0x0F800000u));
        return (Vector512.ConditionalSelect(isSpecial, magnitude | Vector512.Create(0x7F800000u), finite) | sign).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Narrow(Vector512<float> values)
    {
        Vector512<uint> bits = values.AsUInt32(), sign = (bits >> 16) & Vector512.Create(0x8000u), magnitude = bits & Vector512.Create(0x7FFFFFFFu);
        Vector512<uint> isOdd = (magnitude >> 13) & Vector512<uint>.One;
        Vector512<uint> normal = (magnitude + Vector512.Create(0xC8000FFFu) + isOdd) >> 13;

        // Below 2^-14: a sum with a half has the result's bits at its end, rounded by the processor.
        Vector512<uint> subnormal = (magnitude.AsSingle() + Vector512.Create(0.5f)).AsUInt32() - Vector512.Create(0x3F000000u);
        Vector512<uint> result = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(0x38800000u)), subnormal, normal);
        result = Vector512.ConditionalSelect(Vector512.GreaterThanOrEqual(magnitude, Vector512.Create(0x47800000u)), Vector512.Create(0x7C00u), result);
        return Vector512.ConditionalSelect(Vector512.GreaterThan(magnitude, Vector512.Create(0x7F800000u)), Vector512.Create(0x7FFFu), result | sign);
    }

    public static float WidenOne(ushort half) => (float)BitConverter.UInt16BitsToHalf(half);

    public static ushort NarrowOne(float value) => float.IsNaN(value) ? (ushort)0x7FFF : BitConverter.HalfToUInt16Bits((Half)value);
}

/// <summary>The high half of a float.</summary>
internal readonly struct BrainFloat16 : IHalf
{
    public static float Largest => 3.3895313892515355e38f;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<float> Widen(Vector512<uint> halves) => (halves << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Narrow(Vector512<float> values)
    {
        Vector512<uint> bits = values.AsUInt32();
        Vector512<uint> rounded = (bits + Vector512.Create(0x7FFFu) + ((bits >> 16) & Vector512<uint>.One)) >> 16;
        return Vector512.ConditionalSelect(Vector512.Equals(values, values).AsUInt32(), rounded, Vector512.Create(0x7FFFu));
    }

    public static float WidenOne(ushort half) => BitConverter.UInt32BitsToSingle((uint)half << 16);

    public static ushort NarrowOne(float value)
    {
        if (float.IsNaN(value)) return 0x7FFF;
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
}
