using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>
/// 8-bit floating point with 4 bits of exponent, biased by 7, and 3 of fraction, in the "fn" form of the Open Compute Project's OFP8: finite up to 448, gradual below 2^-6 in steps of 2^-9, no infinities,
/// NaN 0x7F and 0xFF. Bit-compatible with <c>float8_e4m3fn</c> of other libraries, so spans may be reinterpreted. Not the "fnuz" form.
/// </summary>
public readonly struct Float8E4M3 : IEquatable<Float8E4M3>, IComparable<Float8E4M3>, IFormattable
{
    private const byte NaNBits = 0x7F;

    // As floats: 2^-6, the smallest normal; 448; and 2^14, whose last bit is worth 2^-9.
    private const uint FirstNormalBits = 121u << 23;
    private const uint LargestBits = 0x43E00000;
    private const float SubnormalShift = 16384;

    private readonly byte _bits;

    private Float8E4M3(byte bits) => _bits = bits;

    /// <summary>0.</summary>
    public static Float8E4M3 Zero => default;

    /// <summary>1.</summary>
    public static Float8E4M3 One => new(0x38);

    /// <summary>Not a number, of positive sign.</summary>
    public static Float8E4M3 NaN => new(NaNBits);

    /// <summary>The largest value, 448.</summary>
    public static Float8E4M3 MaxValue => new(0x7E);

    /// <summary>The most negative value, -448.</summary>
    public static Float8E4M3 MinValue => new(0xFE);

    /// <summary>The smallest positive value, 2^-9.</summary>
    public static Float8E4M3 Epsilon => new(1);

    /// <summary>The value with these bits.</summary>
    /// <param name="bits">Sign, 4 bits of exponent, 3 bits of fraction.</param>
    public static Float8E4M3 FromBits(byte bits) => new(bits);

    /// <summary>The bits: sign, 4 bits of exponent, 3 bits of fraction.</summary>
    public byte ToBits() => _bits;

    /// <summary>Whether the value is not a number: that of two of the 256.</summary>
    /// <param name="value">The value to test.</param>
    public static bool IsNaN(Float8E4M3 value) => (value._bits & 0x7F) == NaNBits;

    /// <summary>Exact widening.</summary>
    /// <param name="value">The value to widen.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static implicit operator float(Float8E4M3 value)
    {
        // Sign and magnitude where a float has them; the product with 2^120 moves the bias from 7 to 127, for subnormals too.
        uint magnitude = value._bits & 0x7Fu;
        uint sign = (value._bits & 0x80u) << 24;
        return magnitude == NaNBits ? BitConverter.UInt32BitsToSingle(sign | 0x7FC00000) : BitConverter.UInt32BitsToSingle(sign | (magnitude << 20)) * 1.329227995784916e36f;
    }

    /// <summary>Rounds to nearest, ties to even. What is beyond 448, infinities included, becomes 448 with its sign; zeros keep their sign; NaN becomes <see cref="NaN"/>.</summary>
    /// <param name="value">The value to round.</param>
    public static explicit operator Float8E4M3(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        uint magnitude = Math.Min(bits & 0x7FFFFFFF, LargestBits);
        if (float.IsNaN(value)) return NaN;
        uint rounded = magnitude >= FirstNormalBits
            ? ((magnitude + 0x7FFFF + ((magnitude >> 20) & 1)) >> 20) - (120 << 3)
            : BitConverter.SingleToUInt32Bits(BitConverter.UInt32BitsToSingle(magnitude) + SubnormalShift) - BitConverter.SingleToUInt32Bits(SubnormalShift);
        return new((byte)(((bits >> 24) & 0x80) | rounded));
    }

    /// <summary>Whether both have the same value: +0 equals -0, NaN equals nothing.</summary>
    /// <param name="left">A value.</param>
    /// <param name="right">A value.</param>
    public static bool operator ==(Float8E4M3 left, Float8E4M3 right) => (float)left == (float)right;

    /// <summary>Whether the values differ.</summary>
    /// <param name="left">A value.</param>
    /// <param name="right">A value.</param>
    public static bool operator !=(Float8E4M3 left, Float8E4M3 right) => !(left == right);

    /// <summary>Whether <paramref name="left"/> is the smaller.</summary>
    /// <param name="left">A value.</param>
    /// <param name="right">A value.</param>
    public static bool operator <(Float8E4M3 left, Float8E4M3 right) => (float)left < (float)right;

    /// <summary>Whether <paramref name="left"/> is the larger.</summary>
    /// <param name="left">A value.</param>
    /// <param name="right">A value.</param>
    public static bool operator >(Float8E4M3 left, Float8E4M3 right) => (float)left > (float)right;

    /// <summary>Whether <paramref name="left"/> is not the larger.</summary>
    /// <param name="left">A value.</param>
    /// <param name="right">A value.</param>
    public static bool operator <=(Float8E4M3 left, Float8E4M3 right) => (float)left <= (float)right;

    /// <summary>Whether <paramref name="left"/> is not the smaller.</summary>
    /// <param name="left">A value.</param>
    /// <param name="right">A value.</param>
    public static bool operator >=(Float8E4M3 left, Float8E4M3 right) => (float)left >= (float)right;

    /// <inheritdoc />
    public bool Equals(Float8E4M3 other) => ((float)this).Equals(other);

    /// <inheritdoc />
    public override bool Equals([NotNullWhen(true)] object? obj) => obj is Float8E4M3 other && Equals(other);

    /// <inheritdoc />
    public override int GetHashCode() => ((float)this).GetHashCode();

    /// <inheritdoc />
    public int CompareTo(Float8E4M3 other) => ((float)this).CompareTo(other);

    /// <summary>The value as text, in the invariant culture.</summary>
    public override string ToString() => ((float)this).ToString(CultureInfo.InvariantCulture);

    /// <inheritdoc />
    public string ToString(string? format, IFormatProvider? formatProvider) => ((float)this).ToString(format, formatProvider);
}
