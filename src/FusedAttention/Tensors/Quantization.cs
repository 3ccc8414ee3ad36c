using System.Numerics;

namespace FusedAttention.Tensors;

/// <summary>
/// Rows of floats to 8-bit codes, one scale a row, in 32-bit IEEE arithmetic: one division for a scale, one a number, one rounding to the code. A product with the reciprocal, or a wider division, rounds differently.
/// </summary>
internal static unsafe class Quantization
{
    private const float LargestInt8 = sbyte.MaxValue;
    private const float LargestFloat8 = 448;

    // 1.5 * 2^23: added to a float of small magnitude, it rounds it to a whole number, ties to even, which the low bits of the sum hold.
    private const float RoundingShift = 12582912f;

    // As floats: 2^-6, the smallest normal number of Float8E4M3, 448, and 2^14, whose last bit is worth 2^-9.
    private const uint FirstNormalBits = 121u << 23;
    private const uint LargestBits = 0x43E00000;
    private const float SubnormalShift = 16384;

    /// <summary>A row to codes of a type, with its scale where that lies beside them.</summary>
    public static void Row(AttentionElementType type, float* row, int count, byte* codes, float* scale)
    {
        switch (type)
        {
            case AttentionElementType.Int8:
                *scale = Int8Scale(LargestMagnitude(row, count));
                ToInt8(row, count, *scale, (sbyte*)codes);
                break;
            case AttentionElementType.Float8E4M3:
                *scale = Float8Scale(LargestMagnitude(row, count));
                ToFloat8(row, count, *scale, (Float8E4M3*)codes);
                break;
            case AttentionElementType.Q8Block:
                ToQ8Blocks(row, count, (Q8Block*)codes);
                break;
            default:
                throw ElementTypes.Unknown(type);
        }
    }

    /// <summary>The way back: the numbers that codes and scale stand for, rounded to floats.</summary>
    /// <param name="type">Of the codes.</param>
    /// <param name="codes">A row of them.</param>
    /// <param name="scale">What they are multiplied with; not looked at where blocks hold their own.</param>
    /// <param name="row">Receives the numbers.</param>
    /// <param name="count">How many they are.</param>
    public static void ToFloats(AttentionElementType type, byte* codes, float scale, float* row, int count)
    {
        switch (type)
        {
            case AttentionElementType.Int8:
                for (int i = 0; i < count; i++) row[i] = ((sbyte*)codes)[i] * scale;
                break;
            case AttentionElementType.Float8E4M3:
                for (int i = 0; i < count; i++) row[i] = ((Float8E4M3*)codes)[i] * scale;
                break;
            case AttentionElementType.Q8Block:
                for (int i = 0; i < count; i++) row[i] = ((Q8Block*)codes)[i / Q8Block.Length][i % Q8Block.Length];
                break;
            default:
                throw ElementTypes.Unknown(type);
        }
    }

    /// <summary>The largest magnitude of a row; what is NaN may be passed over.</summary>
    public static float LargestMagnitude(float* row, int count)
    {
        Vector<float> most = Vector<float>.Zero;
        int i = 0;
        for (; i + Vector<float>.Count <= count; i += Vector<float>.Count) most = Vector.Max(most, Vector.Abs(Vector.Load(row + i)));
        float largest = 0;
        for (int lane = 0; lane < Vector<float>.Count; lane++) largest = Math.Max(largest, most[lane]);
        for (; i < count; i++) largest = Math.Max(largest, Math.Abs(row[i]));
        return largest;
    }

    /// <summary>The scale with which a row of this largest magnitude fills the range of <see cref="sbyte"/> from -127 to 127.</summary>
    public static float Int8Scale(float largest) => largest / LargestInt8;

    /// <summary>The scale with which it fills the range of <see cref="Float8E4M3"/>; 1 where the quotient is 0, which no number can be divided by.</summary>
    public static float Float8Scale(float largest) => largest / LargestFloat8 is > 0 and float scale ? scale : 1;

    /// <summary>The scale of a <see cref="Q8Block"/>: that of <see cref="sbyte"/> rounded to binary16, and finite.</summary>
    public static Half Q8Scale(float largest) => (Half)Math.Min(Int8Scale(largest), (float)Half.MaxValue);

    /// <summary>Codes from -127 to 127, ties to even; all 0 where the scale is.</summary>
    public static void ToInt8(float* row, int count, float scale, sbyte* codes)
    {
        if (scale == 0)
        {
            new Span<sbyte>(codes, count).Clear();
            return;
        }

        int i = 0;
        var divisor = new Vector<float>(scale);
        for (; i + (4 * Vector<float>.Count) <= count; i += 4 * Vector<float>.Count)
        {
            Vector<short> low = Vector.Narrow(Rounded(row + i, divisor), Rounded(row + i + Vector<float>.Count, divisor));
            Vector<short> high = Vector.Narrow(Rounded(row + i + (2 * Vector<float>.Count), divisor), Rounded(row + i + (3 * Vector<float>.Count), divisor));
            Vector.Store(Vector.Narrow(low, high), codes + i);
        }

        // The clamp counts where the scale is subnormal: there quotients reach 190.
        for (; i < count; i++) codes[i] = (sbyte)(int)MathF.Round(Math.Clamp(row[i] / scale, -LargestInt8, LargestInt8), MidpointRounding.ToEven);
    }

    /// <summary>Codes of the quotients, as <see cref="Float8E4M3"/> rounds them.</summary>
    public static void ToFloat8(float* row, int count, float scale, Float8E4M3* codes)
    {
        int i = 0;
        var divisor = new Vector<float>(scale);
        for (; i + (4 * Vector<float>.Count) <= count; i += 4 * Vector<float>.Count)
        {
            Vector<ushort> low = Vector.Narrow(Float8Codes(row + i, divisor), Float8Codes(row + i + Vector<float>.Count, divisor));
            Vector<ushort> high = Vector.Narrow(Float8Codes(row + i + (2 * Vector<float>.Count), divisor), Float8Codes(row + i + (3 * Vector<float>.Count), divisor));
            Vector.Store(Vector.Narrow(low, high), (byte*)codes + i);
        }

        for (; i < count; i++) codes[i] = (Float8E4M3)(row[i] / scale);
    }

    /// <summary>Blocks of a row of whole blocks: each has the scale of its own numbers, by which, as it is rounded, they are divided.</summary>
    public static void ToQ8Blocks(float* row, int count, Q8Block* blocks)
    {
        for (int i = 0; i < count; i += Q8Block.Length, blocks++)
        {
            blocks->Scale = Q8Scale(LargestMagnitude(row + i, Q8Block.Length));
            fixed (sbyte* codes = blocks->Codes) ToInt8(row + i, Q8Block.Length, (float)blocks->Scale, codes);
        }
    }

    private static Vector<int> Rounded(float* row, Vector<float> divisor)
    {
        Vector<float> quotient = Vector.Min(Vector.Max(Vector.Load(row) / divisor, new Vector<float>(-LargestInt8)), new Vector<float>(LargestInt8));
        return Vector.AsVectorInt32(quotient + new Vector<float>(RoundingShift)) - Vector.AsVectorInt32(new Vector<float>(RoundingShift));
    }

    private static Vector<uint> Float8Codes(float* row, Vector<float> divisor)
    {
        Vector<uint> bits = Vector.AsVectorUInt32(Vector.Load(row) / divisor);
        Vector<uint> magnitude = bits & new Vector<uint>(0x7FFFFFFF);
        Vector<uint> clamped = Vector.Min(magnitude, new Vector<uint>(LargestBits));
        Vector<uint> normal = ((clamped + new Vector<uint>(0x7FFFF) + ((clamped >>> 20) & Vector<uint>.One)) >>> 20) - new Vector<uint>(120 << 3);
        Vector<uint> subnormal = Vector.AsVectorUInt32(Vector.AsVectorSingle(clamped) + new Vector<float>(SubnormalShift)) - Vector.AsVectorUInt32(new Vector<float>(SubnormalShift));
        Vector<uint> code = Vector.ConditionalSelect(Vector.LessThan(clamped, new Vector<uint>(FirstNormalBits)), subnormal, normal) | ((bits >>> 24) & new Vector<uint>(0x80));
        return Vector.ConditionalSelect(Vector.GreaterThan(magnitude, new Vector<uint>(0x7F800000)), new Vector<uint>(0x7F), code);
    }
}
