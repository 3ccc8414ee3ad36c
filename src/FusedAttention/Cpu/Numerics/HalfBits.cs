using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace FusedAttention.Cpu.Numerics;

/// <summary>Numbers and steps of the conversions between binary16 and binary32, which .NET 10 has no vector instructions for.</summary>
internal static class HalfBits
{
    /// <summary>2^112: moves an exponent biased by 15 to one biased by 127.</summary>
    public const float Rebase = 5.192296858534828e33f;

    /// <summary>A binary16 shifted left by 13 has its sign and magnitude here, and copies of its sign between.</summary>
    public const int SignAndMagnitude = unchecked((int)0x8FFFE000);

    /// <summary>The exponent bits of a binary16: all set for infinity and NaN.</summary>
    public const ushort Exponent = 0x7C00;

    /// <summary>Twice the bits of a binary16, without its sign, from where on it is infinite or NaN.</summary>
    public const ushort FirstSpecialDoubled = 0xF800;

    /// <summary>2^16: what the exponent of infinity and NaN becomes by <see cref="Rebase"/>; no finite binary16 reaches it.</summary>
    public const float FirstSpecial = 65536;

    /// <summary>The binary16 bits of four floats, rounded to nearest even, in the low half of each lane.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<uint> Round(Vector128<float> value)
    {
        Vector128<uint> bits = value.AsUInt32();
        Vector128<uint> magnitude = bits & Vector128.Create(0x7FFFFFFFu);
        Vector128<uint> sign = (bits ^ magnitude) >>> 16;

        // Normal results: rebase the exponent by 15 - 127 and round off 13 bits; a carry out of the mantissa is the next exponent, up to infinity.
        Vector128<uint> normal = (magnitude + Vector128.Create(unchecked(((uint)(15 - 127) << 23) + 0xFFFu)) + ((magnitude >>> 13) & Vector128<uint>.One)) >>> 13;

        // Subnormal results: adding 0.5 leaves multiples of 2^-24 in the low mantissa bits, rounded by the adder.
        Vector128<uint> half = Vector128.Create(0.5f).AsUInt32();
        Vector128<uint> subnormal = (magnitude.AsSingle() + Vector128.Create(0.5f)).AsUInt32() - half;

        Vector128<uint> finite = Vector128.ConditionalSelect(Vector128.LessThan(magnitude, Vector128.Create(113u << 23)), subnormal, normal);
        Vector128<uint> isNaN = Vector128.GreaterThan(magnitude, Vector128.Create(0x7F800000u));
        Vector128<uint> special = Vector128.Create(0x7C00u) | (isNaN & Vector128.Create(0x0200u));
        return sign | Vector128.ConditionalSelect(Vector128.LessThan(magnitude, Vector128.Create(143u << 23)), finite, special);
    }
}
