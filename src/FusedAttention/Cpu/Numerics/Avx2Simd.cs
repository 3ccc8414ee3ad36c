using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using V = System.Runtime.Intrinsics.Vector256<float>;

namespace FusedAttention.Cpu.Numerics;

/// <summary>256-bit vectors with AVX2 and FMA.</summary>
internal readonly unsafe struct Avx2Simd : ISimd<V>
{
    public static int Width => 8;

    public static bool HasManyRegisters => false;

    public static V Zero => V.Zero;

    public static V Iota => Vector256.Create(0f, 1, 2, 3, 4, 5, 6, 7);

    public static int TransposeSize => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Create(float value) => Vector256.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Load(float* source) => Vector256.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadHalf(ushort* source)
    {
        // The exponent rebased by a multiplication (exact, subnormals included), infinity and NaN restored.
        V rebased = LoadHalfUnrebased(source) * Vector256.Create(HalfBits.Rebase);
        V special = Vector256.GreaterThanOrEqual(Vector256.Abs(rebased), Vector256.Create(HalfBits.FirstSpecial));
        return rebased | (special & Vector256.Create(float.PositiveInfinity));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadHalfUnrebased(ushort* source) =>
        ((Avx2.ConvertToVector256Int32((short*)source) << 13) & Vector256.Create(HalfBits.SignAndMagnitude)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnySpecialHalf(nint* rows, nint offset, int count, int dim)
    {
        // Doubling drops the sign; then the largest bits tell. Four maxima, because one would be a chain as long as the rows.
        Vector256<ushort> max0 = Vector256<ushort>.Zero, max1 = max0, max2 = max0, max3 = max0;
        int whole = dim & -Vector256<ushort>.Count;
        for (int j = 0; j < count; j++)
        {
            ushort* row = (ushort*)(rows[j] + offset);
            nint d = 0;
            for (; d + (4 * Vector256<ushort>.Count) <= whole; d += 4 * Vector256<ushort>.Count)
            {
                max0 = Vector256.Max(max0, Doubled(row + d));
                max1 = Vector256.Max(max1, Doubled(row + d + Vector256<ushort>.Count));
                max2 = Vector256.Max(max2, Doubled(row + d + (2 * Vector256<ushort>.Count)));
                max3 = Vector256.Max(max3, Doubled(row + d + (3 * Vector256<ushort>.Count)));
            }

            for (; d < whole; d += Vector256<ushort>.Count) max0 = Vector256.Max(max0, Doubled(row + d));
        }

        max0 = Vector256.Max(Vector256.Max(max0, max1), Vector256.Max(max2, max3));
        return Vector256.GreaterThanOrEqualAny(max0, Vector256.Create(HalfBits.FirstSpecialDoubled)) || (whole < dim && ScalarSimd.AnySpecialHalf(rows, offset, count, whole, dim));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadBFloat16(ushort* source) => (Avx2.ConvertToVector256Int32(source) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadInt8(sbyte* source) => Avx.ConvertToVector256Single(Avx2.ConvertToVector256Int32(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadFloat8(byte* source)
    {
        V rebased = LoadFiniteFloat8(source);
        return rebased | (Vector256.Equals(Vector256.Abs(rebased), Vector256.Create(Float8Bits.NaNValue)) & Vector256.Create(float.PositiveInfinity));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadFiniteFloat8(byte* source) =>
        ((Avx2.ConvertToVector256Int32((sbyte*)source) << 20) & Vector256.Create(Float8Bits.SignAndMagnitude)).AsSingle() * Vector256.Create(Float8Bits.Rebase);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Prefetch(byte* address) => Sse.Prefetch1(address);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadMask(byte* source) => (~Vector256.Equals(Avx2.ConvertToVector256Int32(source), Vector256<int>.Zero)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* destination, V value) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBFloat16(ushort* destination, V value)
    {
        Vector128Simd.StoreBFloat16(destination, value.GetLower());
        Vector128Simd.StoreBFloat16(destination + 4, value.GetUpper());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreHalf(ushort* destination, V value)
    {
        Vector256<int> result = HalfBits.Round(value).AsInt32();
        Sse41.PackUnsignedSaturate(result.GetLower(), result.GetUpper()).Store(destination);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Add(V a, V b) => a + b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Subtract(V a, V b) => a - b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Multiply(V a, V b) => a * b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Divide(V a, V b) => a / b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V MultiplyAdd(V a, V b, V c) => Fma.MultiplyAdd(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Max(V a, V b) => Avx.Max(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Abs(V a) => Vector256.Abs(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LessThan(V a, V b) => Vector256.LessThan(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Equal(V a, V b) => Vector256.Equals(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Select(V mask, V a, V b) => Vector256.ConditionalSelect(mask, a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LessOrEqual(V a, V b) => Vector256.LessThanOrEqual(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V And(V a, V b) => a & b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Or(V a, V b) => a | b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Not(V a) => ~a;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Bits(V mask) => mask.ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Sqrt(V a) => Vector256.Sqrt(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Floor(V a) => Vector256.Floor(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Gather(float* table, V index) => Avx2.GatherVector256(table, Avx.ConvertToVector256Int32WithTruncation(index), sizeof(float));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V SplitLogarithm(V x, out V mantissa)
    {
        // Bits of a float are a logarithm as they stand; those of sqrt(1/2) taken away, the exponent's field counts from there.
        Vector256<int> n = (x.AsInt32() - Vector256.Create(ScalarSimd.BitsOfRootHalf)) >> 23;
        mantissa = (x.AsInt32() - (n << 23)).AsSingle();
        return Vector256.ConvertToSingle(n);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V SplitExponent(V x, out V fraction)
    {
        // The sum leaves round(x) in its low bits.
        V shifted = x + Vector256.Create(ScalarSimd.RoundingShift);
        fraction = x - (shifted - Vector256.Create(ScalarSimd.RoundingShift));
        return shifted;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V ScaleByExponent(V value, V exponent, V x) =>
        Vector256.AndNot((value.AsInt32() + (exponent.AsInt32() << 23)).AsSingle(), Vector256.LessThan(x, Vector256.Create(-126f)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float First(V a) => a.ToScalar();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(V a) => Vector128Simd.Sum(a.GetLower() + a.GetUpper());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float MaxAcross(V a) => Vector128Simd.MaxAcross(Vector128Simd.Max(a.GetLower(), a.GetUpper()));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreSums(float* destination, float factor, V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7) =>
        Store(destination, Sums(a0, a1, a2, a3, a4, a5, a6, a7) * factor);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreSumPairs(float* destination, nint stride, float factor, V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7)
    {
        V sums = Sums(a0, a1, a2, a3, a4, a5, a6, a7) * factor;
        Vector128Simd.StorePairs(destination, stride, sums.GetLower());
        Vector128Simd.StorePairs(destination + (2 * stride), stride, sums.GetUpper());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose(nint* rows, long column, float* destination, int destinationStride)
    {
        // Load row r beside row r + 4, so that three rounds of shuffles inside 128-bit lanes suffice.
        V r04lo = Pair(rows, 0, column);
        V r15lo = Pair(rows, 1, column);
        V r26lo = Pair(rows, 2, column);
        V r37lo = Pair(rows, 3, column);
        V r04hi = Pair(rows, 0, column + 4);
        V r15hi = Pair(rows, 1, column + 4);
        V r26hi = Pair(rows, 2, column + 4);
        V r37hi = Pair(rows, 3, column + 4);
        StoreColumns(destination, destinationStride, r04lo, r15lo, r26lo, r37lo);
        StoreColumns(destination + (4 * destinationStride), destinationStride, r04hi, r15hi, r26hi, r37hi);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Deinterleave(V first, V second, out V even, out V odd)
    {
        // Shuffles stay inside 128-bit lanes and leave the quarters in the order 0, 2, 1, 3.
        even = Avx2.Permute4x64(Avx.Shuffle(first, second, 0x88).AsDouble(), 0xD8).AsSingle();
        odd = Avx2.Permute4x64(Avx.Shuffle(first, second, 0xDD).AsDouble(), 0xD8).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Interleave(V even, V odd, out V first, out V second)
    {
        V low = Avx.UnpackLow(even, odd), high = Avx.UnpackHigh(even, odd);
        first = Avx.Permute2x128(low, high, 0x20);
        second = Avx.Permute2x128(low, high, 0x31);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Sums(V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7)
    {
        // Horizontal additions leave four half sums a 128-bit lane; one exchange of lanes and one addition finish all eight.
        V low = Avx.HorizontalAdd(Avx.HorizontalAdd(a0, a1), Avx.HorizontalAdd(a2, a3));
        V high = Avx.HorizontalAdd(Avx.HorizontalAdd(a4, a5), Avx.HorizontalAdd(a6, a7));
        return Avx.Permute2x128(low, high, 0x20) + Avx.Permute2x128(low, high, 0x31);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Pair(nint* rows, int row, long column) =>
        Vector256.Create(Vector128.Load((float*)rows[row] + column), Vector128.Load((float*)rows[row + 4] + column));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreColumns(float* destination, int stride, V r04, V r15, V r26, V r37)
    {
        V lo02 = Avx.UnpackLow(r04, r26);
        V hi02 = Avx.UnpackHigh(r04, r26);
        V lo13 = Avx.UnpackLow(r15, r37);
        V hi13 = Avx.UnpackHigh(r15, r37);
        Store(destination, Avx.UnpackLow(lo02, lo13));
        Store(destination + stride, Avx.UnpackHigh(lo02, lo13));
        Store(destination + (2 * stride), Avx.UnpackLow(hi02, hi13));
        Store(destination + (3 * stride), Avx.UnpackHigh(hi02, hi13));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<ushort> Doubled(ushort* source) => Vector256.Load(source) + Vector256.Load(source);
}
