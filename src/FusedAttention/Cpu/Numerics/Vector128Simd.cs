using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using V = System.Runtime.Intrinsics.Vector128<float>;

namespace FusedAttention.Cpu.Numerics;

/// <summary>128-bit vectors in portable operations only: Arm NEON and x86 SSE alike.</summary>
internal readonly unsafe struct Vector128Simd : ISimd<V>
{
    public static int Width => 4;

    public static bool HasManyRegisters => System.Runtime.Intrinsics.Arm.AdvSimd.IsSupported;

    public static V Zero => V.Zero;

    public static V Iota => Vector128.Create(0f, 1, 2, 3);

    public static int TransposeSize => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Create(float value) => Vector128.Create(value);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Load(float* source) => Vector128.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadHalf(ushort* source)
    {
        // The exponent rebased by a multiplication (exact, subnormals included), infinity and NaN restored.
        V rebased = LoadHalfUnrebased(source) * Vector128.Create(HalfBits.Rebase);
        V special = Vector128.GreaterThanOrEqual(Vector128.Abs(rebased), Vector128.Create(HalfBits.FirstSpecial));
        return rebased | (special & Vector128.Create(float.PositiveInfinity));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadHalfUnrebased(ushort* source) =>
        ((Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<long>(source)).AsInt16()) << 13) & Vector128.Create(HalfBits.SignAndMagnitude)).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool AnySpecialHalf(nint* rows, nint offset, int count, int dim)
    {
        // Doubling drops the sign; then the largest bits tell. Four maxima, because one would be a chain as long as the rows.
        Vector128<ushort> max0 = Vector128<ushort>.Zero, max1 = max0, max2 = max0, max3 = max0;
        int whole = dim & -Vector128<ushort>.Count;
        for (int j = 0; j < count; j++)
        {
            ushort* row = (ushort*)(rows[j] + offset);
            nint d = 0;
            for (; d + (4 * Vector128<ushort>.Count) <= whole; d += 4 * Vector128<ushort>.Count)
            {
                max0 = Vector128.Max(max0, Doubled(row + d));
                max1 = Vector128.Max(max1, Doubled(row + d + Vector128<ushort>.Count));
                max2 = Vector128.Max(max2, Doubled(row + d + (2 * Vector128<ushort>.Count)));
                max3 = Vector128.Max(max3, Doubled(row + d + (3 * Vector128<ushort>.Count)));
            }

            for (; d < whole; d += Vector128<ushort>.Count) max0 = Vector128.Max(max0, Doubled(row + d));
        }

        max0 = Vector128.Max(Vector128.Max(max0, max1), Vector128.Max(max2, max3));
        return Vector128.GreaterThanOrEqualAny(max0, Vector128.Create(HalfBits.FirstSpecialDoubled)) || (whole < dim && ScalarSimd.AnySpecialHalf(rows, offset, count, whole, dim));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadBFloat16(ushort* source) =>
        (Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<long>(source)).AsUInt16()) << 16).AsSingle();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadInt8(sbyte* source) => Vector128.ConvertToSingle(Widen(source));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadFloat8(byte* source)
    {
        V rebased = LoadFiniteFloat8(source);
        return rebased | (Vector128.Equals(Vector128.Abs(rebased), Vector128.Create(Float8Bits.NaNValue)) & Vector128.Create(float.PositiveInfinity));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadFiniteFloat8(byte* source) =>
        ((Widen((sbyte*)source) << 20) & Vector128.Create(Float8Bits.SignAndMagnitude)).AsSingle() * Vector128.Create(Float8Bits.Rebase);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Prefetch(byte* address)
    {
        // .NET has no prefetch for Arm.
        if (System.Runtime.Intrinsics.X86.Sse.IsSupported) System.Runtime.Intrinsics.X86.Sse.Prefetch1(address);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LoadMask(byte* source)
    {
        Vector128<byte> bytes = Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<int>(source)).AsByte();
        Vector128<uint> wide = Vector128.WidenLower(Vector128.WidenLower(bytes));
        return (~Vector128.Equals(wide, Vector128<uint>.Zero)).AsSingle();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store(float* destination, V value) => value.Store(destination);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreBFloat16(ushort* destination, V value)
    {
        Vector128<uint> bits = value.AsUInt32();
        Vector128<uint> rounded = (bits + Vector128.Create(0x7FFFu) + ((bits >>> 16) & Vector128<uint>.One)) >>> 16;
        Vector128<uint> quiet = (bits >>> 16) | Vector128.Create(0x40u);
        Vector128<uint> result = Vector128.ConditionalSelect(Vector128.Equals(value, value).AsUInt32(), rounded, quiet);
        Unsafe.WriteUnaligned(destination, Vector128.Narrow(result, result).AsInt64().ToScalar());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreHalf(ushort* destination, V value)
    {
        Vector128<uint> result = HalfBits.Round(value);
        Unsafe.WriteUnaligned(destination, Vector128.Narrow(result, result).AsInt64().ToScalar());
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
    public static V MultiplyAdd(V a, V b, V c) => Vector128.MultiplyAddEstimate(a, b, c);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Max(V a, V b) => Vector128.MaxNative(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Abs(V a) => Vector128.Abs(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LessThan(V a, V b) => Vector128.LessThan(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Equal(V a, V b) => Vector128.Equals(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Select(V mask, V a, V b) => Vector128.ConditionalSelect(mask, a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V LessOrEqual(V a, V b) => Vector128.LessThanOrEqual(a, b);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V And(V a, V b) => a & b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Or(V a, V b) => a | b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Not(V a) => ~a;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static uint Bits(V mask) => mask.ExtractMostSignificantBits();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Sqrt(V a) => Vector128.Sqrt(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Floor(V a) => Vector128.Floor(a);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Gather(float* table, V index) => Vector128.Create(table[Index(index, 0)], table[Index(index, 1)], table[Index(index, 2)], table[Index(index, 3)]);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V SplitLogarithm(V x, out V mantissa)
    {
        // Bits of a float are a logarithm as they stand; those of sqrt(1/2) taken away, the exponent's field counts from there.
        Vector128<int> n = (x.AsInt32() - Vector128.Create(ScalarSimd.BitsOfRootHalf)) >> 23;
        mantissa = (x.AsInt32() - (n << 23)).AsSingle();
        return Vector128.ConvertToSingle(n);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V SplitExponent(V x, out V fraction)
    {
        // The sum leaves round(x) in its low bits.
        V shifted = x + Vector128.Create(ScalarSimd.RoundingShift);
        fraction = x - (shifted - Vector128.Create(ScalarSimd.RoundingShift));
        return shifted;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V ScaleByExponent(V value, V exponent, V x) =>
        Vector128.AndNot((value.AsInt32() + (exponent.AsInt32() << 23)).AsSingle(), Vector128.LessThan(x, Vector128.Create(-126f)));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float First(V a) => a.ToScalar();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sum(V a)
    {
        V pairs = a + Vector128.Shuffle(a, Vector128.Create(1, 0, 3, 2));
        return pairs.ToScalar() + pairs.GetElement(2);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float MaxAcross(V a)
    {
        V pairs = Max(a, Vector128.Shuffle(a, Vector128.Create(1, 0, 3, 2)));
        return Max(pairs, Vector128.Shuffle(pairs, Vector128.Create(2, 3, 0, 1))).ToScalar();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreSums(float* destination, float factor, V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7)
    {
        Store(destination, Sums(a0, a1, a2, a3) * factor);
        Store(destination + 4, Sums(a4, a5, a6, a7) * factor);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreSumPairs(float* destination, nint stride, float factor, V a0, V a1, V a2, V a3, V a4, V a5, V a6, V a7)
    {
        StorePairs(destination, stride, Sums(a0, a1, a2, a3) * factor);
        StorePairs(destination + (2 * stride), stride, Sums(a4, a5, a6, a7) * factor);
    }

    /// <summary>Two rows of two.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StorePairs(float* destination, nint stride, V pairs)
    {
        pairs.GetLower().Store(destination);
        pairs.GetUpper().Store(destination + stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Transpose(nint* rows, long column, float* destination, int destinationStride)
    {
        (V c0, V c1, V c2, V c3) = Transposed(
            Load((float*)rows[0] + column), Load((float*)rows[1] + column), Load((float*)rows[2] + column), Load((float*)rows[3] + column));
        Store(destination, c0);
        Store(destination + destinationStride, c1);
        Store(destination + (2 * destinationStride), c2);
        Store(destination + (3 * destinationStride), c3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Deinterleave(V first, V second, out V even, out V odd)
    {
        if (System.Runtime.Intrinsics.Arm.AdvSimd.Arm64.IsSupported)
        {
            even = System.Runtime.Intrinsics.Arm.AdvSimd.Arm64.UnzipEven(first, second);
            odd = System.Runtime.Intrinsics.Arm.AdvSimd.Arm64.UnzipOdd(first, second);
        }
        else if (System.Runtime.Intrinsics.X86.Sse.IsSupported)
        {
            even = System.Runtime.Intrinsics.X86.Sse.Shuffle(first, second, 0x88);
            odd = System.Runtime.Intrinsics.X86.Sse.Shuffle(first, second, 0xDD);
        }
        else
        {
            even = Vector128.Create(first.GetElement(0), first.GetElement(2), second.GetElement(0), second.GetElement(2));
            odd = Vector128.Create(first.GetElement(1), first.GetElement(3), second.GetElement(1), second.GetElement(3));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Interleave(V even, V odd, out V first, out V second)
    {
        first = ZipLower(even, odd);
        second = ZipUpper(even, odd);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V Sums(V a0, V a1, V a2, V a3)
    {
        (V c0, V c1, V c2, V c3) = Transposed(a0, a1, a2, a3);
        return (c0 + c1) + (c2 + c3);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (V C0, V C1, V C2, V C3) Transposed(V r0, V r1, V r2, V r3)
    {
        // Interleave rows 0 and 2, 1 and 3, then the results: four columns after two rounds.
        V lo02 = ZipLower(r0, r2);
        V hi02 = ZipUpper(r0, r2);
        V lo13 = ZipLower(r1, r3);
        V hi13 = ZipUpper(r1, r3);
        return (ZipLower(lo02, lo13), ZipUpper(lo02, lo13), ZipLower(hi02, hi13), ZipUpper(hi02, hi13));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V ZipLower(V a, V b) => System.Runtime.Intrinsics.Arm.AdvSimd.Arm64.IsSupported
        ? System.Runtime.Intrinsics.Arm.AdvSimd.Arm64.ZipLow(a, b)
        : System.Runtime.Intrinsics.X86.Sse.IsSupported
            ? System.Runtime.Intrinsics.X86.Sse.UnpackLow(a, b)
            : Vector128.Create(a.GetElement(0), b.GetElement(0), a.GetElement(1), b.GetElement(1));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static V ZipUpper(V a, V b) => System.Runtime.Intrinsics.Arm.AdvSimd.Arm64.IsSupported
        ? System.Runtime.Intrinsics.Arm.AdvSimd.Arm64.ZipHigh(a, b)
        : System.Runtime.Intrinsics.X86.Sse.IsSupported
            ? System.Runtime.Intrinsics.X86.Sse.UnpackHigh(a, b)
            : Vector128.Create(a.GetElement(2), b.GetElement(2), a.GetElement(3), b.GetElement(3));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<ushort> Doubled(ushort* source) => Vector128.Load(source) + Vector128.Load(source);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Index(V index, int lane) => Vector128.ConvertToInt32Native(index).GetElement(lane);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> Widen(sbyte* source) => Vector128.WidenLower(Vector128.WidenLower(Vector128.CreateScalarUnsafe(Unsafe.ReadUnaligned<int>(source)).AsSByte()));
}
