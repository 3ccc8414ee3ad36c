using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using V = System.Runtime.Intrinsics.Vector512<float>;

namespace FusedAttention.Cpu.Numerics;

/// <summary>512-bit vectors with AVX-512 F, BW, DQ and VL.</summary>
internal readonly unsafe struct Avx512Simd : ISimd<V>
{
    public static int Width => 16;

    public static bool HasManyRegisters => true;

    public static V Zero => V.Zero;

    public static V Iota => Vector512.Create(0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

    public static int TransposeSize => Avx2Simd.TransposeSize;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Create(float value) => Vector512.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Load(float* source) => Vector512.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadHalf(ushort* source)
    {
        // The exponent rebased by a multiplication (exact, subnormals included), infinity and NaN restored.
        V rebased = LoadHalfUnrebased(source) * Vector512.Create(HalfBits.Rebase);
        V special = Vector512.GreaterThanOrEqual(Vector512.Abs(rebased), Vector512.Create(HalfBits.FirstSpecial));
        return rebased | (special & Vector512.Create(float.PositiveInfinity));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadHalfUnrebased(ushort* source) =>
        ((Avx512F.ConvertToVector512Int32(Vector256.Load((short*)source)) << 13) & Vector512.Create(HalfBits.SignAndMagnitude)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnySpecialHalf(nint* rows, nint offset, int count, int dim)
    {
        // Doubling drops the sign; then the largest bits tell. Four maxima, because one would be a chain as long as the rows.
        Vector512<ushort> max0 = Vector512<ushort>.Zero, max1 = max0, max2 = max0, max3 = max0;
        int whole = dim & -Vector512<ushort>.Count;
        for (int j = 0; j < count; j++)
        {
            ushort* row = (ushort*)(rows[j] + offset);
            nint d = 0;
            for (; d + (4 * Vector512<ushort>.Count) <= whole; d += 4 * Vector512<ushort>.Count)
            {
                max0 = Vector512.Max(max0, Doubled(row + d));
                max1 = Vector512.Max(max1, Doubled(row + d + Vector512<ushort>.Count));
                max2 = Vector512.Max(max2, Doubled(row + d + (2 * Vector512<ushort>.Count)));
                max3 = Vector512.Max(max3, Doubled(row + d + (3 * Vector512<ushort>.Count)));
            }

            for (; d < whole; d += Vector512<ushort>.Count) max0 = Vector512.Max(max0, Doubled(row + d));
        }

        max0 = Vector512.Max(Vector512.Max(max0, max1), Vector512.Max(max2, max3));
        return Vector512.GreaterThanOrEqualAny(max0, Vector512.Create(HalfBits.FirstSpecialDoubled)) || (whole < dim && ScalarSimd.AnySpecialHalf(rows, offset, count, whole, dim));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadBFloat16(ushort* source) => (Avx512F.ConvertToVector512Int32(Vector256.Load(source)) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadInt8(sbyte* source) => Avx512F.ConvertToVector512Single(Avx512F.ConvertToVector512Int32(Vector128.Load(source)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadFloat8(byte* source)
    {
        V rebased = LoadFiniteFloat8(source);
        return rebased | (Vector512.Equals(Vector512.Abs(rebased), Vector512.Create(Float8Bits.NaNValue)) & Vector512.Create(float.PositiveInfinity));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadFiniteFloat8(byte* source) =>
        ((Avx512F.ConvertToVector512Int32(Vector128.Load((sbyte*)source)) << 20) & Vector512.Create(Float8Bits.SignAndMagnitude)).AsSingle() * Vector512.Create(Float8Bits.Rebase);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Prefetch(byte* address) => Sse.Prefetch1(address);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadMask(byte* source) => (~Vector512.Equals(Avx512F.ConvertToVector512Int32(Vector128.Load(source)), Vector512<int>.Zero)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* destination, V value) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBFloat16(ushort* destination, V value)
    {
        Vector512<uint> bits = value.AsUInt32();
        Vector512<uint> rounded = (bits + Vector512.Create(0x7FFFu) + ((bits >>> 16) & Vector512<uint>.One)) >>> 16;
        Vector512<uint> quiet = (bits >>> 16) | Vector512.Create(0x40u);
        Avx512F.ConvertToVector256UInt16(Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), rounded, quiet)).Store(destination);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreHalf(ushort* destination, V value) => Avx512F.ConvertToVector256UInt16(HalfBits.Round(value)).Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Add(V a, V b) => a + b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Subtract(V a, V b) => a - b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Multiply(V a, V b) => a * b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Divide(V a, V b) => a / b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V MultiplyAdd(V a, V b, V c) => Avx512F.FusedMultiplyAdd(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Max(V a, V b) => Avx512F.Max(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Abs(V a) => Vector512.Abs(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LessThan(V a, V b) => Vector512.LessThan(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Equal(V a, V b) => Vector512.Equals(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Select(V mask, V a, V b) => Vector512.ConditionalSelect(mask, a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LessOrEqual(V a, V b) => Vector512.LessThanOrEqual(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V And(V a, V b) => a & b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Or(V a, V b) => a | b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Not(V a) => ~a;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Bits(V mask) => (uint)mask.ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Sqrt(V a) => Vector512.Sqrt(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Floor(V a) => Vector512.Floor(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Gather(float* table, V index) => Vector512.Create(Avx2.GatherVector256(table, Avx512F.ConvertToVector512Int32WithTruncation(index).GetLower(), sizeof(float)), Avx2.GatherVector256(table, Avx512F.ConvertToVector512Int32WithTruncation(index).GetUpper(), sizeof(float)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V SplitLogarithm(V x, out V mantissa)
    {
        // Bits of a float are a logarithm as they stand; those of sqrt(1/2) taken away, the exponent's field counts from there.
        Vector512<int> n = (x.AsInt32() - Vector512.Create(ScalarSimd.BitsOfRootHalf)) >> 23;
        mantissa = (x.AsInt32() - (n << 23)).AsSingle();
        return Vector512.ConvertToSingle(n);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V SplitExponent(V x, out V fraction)
    {
        V n = Avx512F.RoundScale(x, 0);
        fraction = x - n;
        return n;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V ScaleByExponent(V value, V exponent, V x) =>
        Vector512.ConditionalSelect(Avx512F.CompareNotLessThan(x, Vector512.Create(-126f)), Avx512F.Scale(value, exponent), V.Zero);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float First(V a) => a.ToScalar();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(V a) => Avx2Simd.Sum(a.GetLower() + a.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float MaxAcross(V a) => Avx2Simd.MaxAcross(Avx2Simd.Max(a.GetLower(), a.GetUpper()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreSums(float* destination, float factor, V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7) =>
        Avx2Simd.StoreSums(destination, factor, Fold(a0), Fold(a1), Fold(a2), Fold(a3), Fold(a4), Fold(a5), Fold(a6), Fold(a7));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreSumPairs(float* destination, nint stride, float factor, V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7) =>
        Avx2Simd.StoreSumPairs(destination, stride, factor, Fold(a0), Fold(a1), Fold(a2), Fold(a3), Fold(a4), Fold(a5), Fold(a6), Fold(a7));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Deinterleave(V first, V second, out V even, out V odd)
    {
        even = Avx512F.PermuteVar16x32x2(first, Vector512.Create(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), second);
        odd = Avx512F.PermuteVar16x32x2(first, Vector512.Create(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), second);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Interleave(V even, V odd, out V first, out V second)
    {
        first = Avx512F.PermuteVar16x32x2(even, Vector512.Create(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23), odd);
        second = Avx512F.PermuteVar16x32x2(even, Vector512.Create(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31), odd);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose(nint* rows, long column, float* destination, int destinationStride) =>
        Avx2Simd.Transpose(rows, column, destination, destinationStride);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Fold(V a) => a.GetLower() + a.GetUpper();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<ushort> Doubled(ushort* source) => Vector512.Load(source) + Vector512.Load(source);
}
