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

    // As floats: 2^-14, the smallest normal binary16, and 2^16, which becomes infinity.
    private const uint FirstNormalBits = 113u << 23;
    private const uint FirstSpecialBits = 143u << 23;

    // Rebases the exponent by 15 - 127 and adds just less than half of the 13 bits that go; with the last bit that stays, ties go to even.
    private const uint RebaseAndRound = unchecked(((uint)(15 - 127) << 23) + 0xFFFu);

    /// <summary>The binary16 bits of floats, rounded to nearest even, in the low half of each lane.</summary>
    /// <remarks>
    /// Normal results: the exponent rebased and 13 bits rounded off; a carry out of the mantissa is the next exponent, up to infinity, and whatever is too large is clamped to what becomes
    /// infinity. Subnormal results: adding 0.5 leaves multiples of 2^-24 in the low mantissa bits, rounded by the adder. NaN is infinity with a mantissa.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector128<uint> Round(Vector128<float> value)
    {
        Vector128<uint> bits = value.AsUInt32();
        Vector128<uint> magnitude = bits & Vector128.Create(0x7FFFFFFFu);
        Vector128<uint> sign = (bits ^ magnitude) >>> 16;
        Vector128<uint> clamped = Vector128.Min(magnitude, Vector128.Create(FirstSpecialBits));
        Vector128<uint> normal = (clamped + Vector128.Create(RebaseAndRound) + ((clamped >>> 13) & Vector128<uint>.One)) >>> 13;
        Vector128<uint> subnormal = (magnitude.AsSingle() + Vector128.Create(0.5f)).AsUInt32() - Vector128.Create(0.5f).AsUInt32();
        Vector128<uint> rounded = Vector128.ConditionalSelect(Vector128.LessThan(magnitude, Vector128.Create(FirstNormalBits)), subnormal, normal);
        Vector128<uint> isNaN = Vector128.GreaterThan(magnitude, Vector128.Create(float.PositiveInfinity).AsUInt32());
        return sign | rounded | (isNaN & Vector128.Create(0x0200u));
    }

    /// <inheritdoc cref="Round(Vector128{float})"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector256<uint> Round(Vector256<float> value)
    {
        Vector256<uint> bits = value.AsUInt32();
        Vector256<uint> magnitude = bits & Vector256.Create(0x7FFFFFFFu);
        Vector256<uint> sign = (bits ^ magnitude) >>> 16;
        Vector256<uint> clamped = Vector256.Min(magnitude, Vector256.Create(FirstSpecialBits));
        Vector256<uint> normal = (clamped + Vector256.Create(RebaseAndRound) + ((clamped >>> 13) & Vector256<uint>.One)) >>> 13;
        Vector256<uint> subnormal = (magnitude.AsSingle() + Vector256.Create(0.5f)).AsUInt32() - Vector256.Create(0.5f).AsUInt32();
        Vector256<uint> rounded = Vector256.ConditionalSelect(Vector256.LessThan(magnitude, Vector256.Create(FirstNormalBits)), subnormal, normal);
        Vector256<uint> isNaN = Vector256.GreaterThan(magnitude, Vector256.Create(float.PositiveInfinity).AsUInt32());
        return sign | rounded | (isNaN & Vector256.Create(0x0200u));
    }

    /// <inheritdoc cref="Round(Vector128{float})"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Round(Vector512<float> value)
    {
        Vector512<uint> bits = value.AsUInt32();
        Vector512<uint> magnitude = bits & Vector512.Create(0x7FFFFFFFu);
        Vector512<uint> sign = (bits ^ magnitude) >>> 16;
        Vector512<uint> clamped = Vector512.Min(magnitude, Vector512.Create(FirstSpecialBits));
        Vector512<uint> normal = (clamped + Vector512.Create(RebaseAndRound) + ((clamped >>> 13) & Vector512<uint>.One)) >>> 13;
        Vector512<uint> subnormal = (magnitude.AsSingle() + Vector512.Create(0.5f)).AsUInt32() - Vector512.Create(0.5f).AsUInt32();
        Vector512<uint> rounded = Vector512.ConditionalSelect(Vector512.LessThan(magnitude, Vector512.Create(FirstNormalBits)), subnormal, normal);
        Vector512<uint> isNaN = Vector512.GreaterThan(magnitude, Vector512.Create(float.PositiveInfinity).AsUInt32());
        return sign | rounded | (isNaN & Vector512.Create(0x0200u));
    }
}
