using System.Runtime.CompilerServices;

namespace FusedAttention.Cpu.Numerics;

/// <summary>One lane, no vector instructions: the variant that runs anywhere, and a vector-free check on the others.</summary>
internal readonly unsafe struct ScalarSimd : ISimd<float>
{
    public static int Width => 1;

    public static bool HasManyRegisters => false;

    public static float Zero => 0;

    public static float Iota => 0;

    public static int TransposeSize => 1;

    public static float Create(float value) => value;

    public static float Load(float* source) => *source;

    public static float LoadHalf(ushort* source) => (float)BitConverter.UInt16BitsToHalf(*source);

    public static float LoadHalfUnrebased(ushort* source) => BitConverter.Int32BitsToSingle(((short)*source << 13) & HalfBits.SignAndMagnitude);

    public static float LoadBFloat16(ushort* source) => BFloat16.FromBits(*source);

    public static float LoadInt8(sbyte* source) => *source;

    public static float LoadFloat8(byte* source) => Float8E4M3.FromBits(*source);

    public static float LoadFiniteFloat8(byte* source) => BitConverter.Int32BitsToSingle((*(sbyte*)source << 20) & Float8Bits.SignAndMagnitude) * Float8Bits.Rebase;

    public static bool AnySpecialHalf(nint* rows, nint offset, int count, int dim) => AnySpecialHalf(rows, offset, count, 0, dim);

    /// <summary>The same for elements [start, dim) of each row: what is left over after whole vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnySpecialHalf(nint* rows, nint offset, int count, int start, int dim)
    {
        for (int j = 0; j < count; j++)
        {
            ushort* row = (ushort*)(rows[j] + offset);
            for (int d = start; d < dim; d++)
            {
                if ((row[d] & HalfBits.Exponent) == HalfBits.Exponent) return true;
            }
        }

        return false;
    }

    public static void Prefetch(byte* address)
    {
    }

    public static float LoadMask(byte* source) => BitConverter.UInt32BitsToSingle(*source != 0 ? uint.MaxValue : 0);

    public static void Store(float* destination, float value) => *destination = value;

    public static void StoreBFloat16(ushort* destination, float value) => *destination = ((BFloat16)value).ToBits();

    public static void StoreHalf(ushort* destination, float value) => *destination = BitConverter.HalfToUInt16Bits((Half)value);

    public static float Add(float a, float b) => a + b;

    public static float Subtract(float a, float b) => a - b;

    public static float Multiply(float a, float b) => a * b;

    public static float Divide(float a, float b) => a / b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float MultiplyAdd(float a, float b, float c) => float.MultiplyAddEstimate(a, b, c);

    public static float Max(float a, float b) => a > b ? a : b;

    public static float Abs(float a) => Math.Abs(a);

    public static float LessThan(float a, float b) => BitConverter.UInt32BitsToSingle(a < b ? uint.MaxValue : 0);

    public static float Equal(float a, float b) => BitConverter.UInt32BitsToSingle(a == b ? uint.MaxValue : 0);

    public static float Select(float mask, float a, float b) => BitConverter.SingleToUInt32Bits(mask) != 0 ? a : b;

    public static float LessOrEqual(float a, float b) => BitConverter.UInt32BitsToSingle(a <= b ? uint.MaxValue : 0);

    public static float And(float a, float b) => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(a) & BitConverter.SingleToUInt32Bits(b));

    public static float Or(float a, float b) => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(a) | BitConverter.SingleToUInt32Bits(b));

    public static float Not(float a) => BitConverter.UInt32BitsToSingle(~BitConverter.SingleToUInt32Bits(a));

    public static uint Bits(float mask) => BitConverter.SingleToUInt32Bits(mask) >> 31;

    public static float Sqrt(float a) => MathF.Sqrt(a);

    public static float Floor(float a) => MathF.Floor(a);

    public static float Gather(float* table, float index) => table[(int)index];

    /// <summary>The bits of the square root of 1/2.</summary>
    public const int BitsOfRootHalf = 0x3F3504F3;

    public static float SplitLogarithm(float x, out float mantissa)
    {
        int n = (BitConverter.SingleToInt32Bits(x) - BitsOfRootHalf) >> 23;
        mantissa = BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(x) - (n << 23));
        return n;
    }

    /// <summary>1.5 * 2^23: added to a float of small magnitude, it rounds it to an integer, which the low bits of the sum hold.</summary>
    public const float RoundingShift = 12582912f;

    public static float SplitExponent(float x, out float fraction)
    {
        float shifted = x + RoundingShift;
        fraction = x - (shifted - RoundingShift);
        return shifted;
    }

    public static float ScaleByExponent(float value, float exponent, float x) =>
        x < -126f ? 0 : BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(value) + (BitConverter.SingleToInt32Bits(exponent) << 23));

    public static float First(float a) => a;

    public static float Sum(float a) => a;

    public static float MaxAcross(float a) => a;

    public static void StoreSums(float* destination, float factor, float a0, float a1, float a2, float a3, float a4, float a5, float a6, float a7)
    {
        destination[0] = a0 * factor;
        destination[1] = a1 * factor;
        destination[2] = a2 * factor;
        destination[3] = a3 * factor;
        destination[4] = a4 * factor;
        destination[5] = a5 * factor;
        destination[6] = a6 * factor;
        destination[7] = a7 * factor;
    }

    public static void StoreSumPairs(
        float* destination, nint stride, float factor, float a0, float a1, float a2, float a3, float a4, float a5, float a6, float a7)
    {
        destination[0] = a0 * factor;
        destination[1] = a1 * factor;
        destination[stride] = a2 * factor;
        destination[stride + 1] = a3 * factor;
        destination[2 * stride] = a4 * factor;
        destination[(2 * stride) + 1] = a5 * factor;
        destination[3 * stride] = a6 * factor;
        destination[(3 * stride) + 1] = a7 * factor;
    }

    public static void Deinterleave(float first, float second, out float even, out float odd) => (even, odd) = (first, second);

    public static void Interleave(float even, float odd, out float first, out float second) => (first, second) = (even, odd);

    public static void Transpose(nint* rows, long column, float* destination, int destinationStride) => *destination = ((float*)rows[0])[column];
}
