using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Integers of 32 bits.</summary>
internal static class Integers
{
    public readonly struct Move : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => a;
    }

    public readonly struct Add : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => a + b;
    }

    public readonly struct Subtract : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => a - b;
    }

    public readonly struct Multiply : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => a * b;
    }

    public readonly struct MultiplyAdd : ITernary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => (a * b) + c;
    }

    public readonly struct And : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => a & b;
    }

    public readonly struct Or : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => a | b;
    }

    public readonly struct Xor : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => a ^ b;
    }

    public readonly struct Not : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => ~a;
    }

    public readonly struct Negate : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => Vector512<uint>.Zero - a;
    }

    public readonly struct Abs : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => Vector512.Abs(a.AsInt32()).AsUInt32();
    }

    public readonly struct Min : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.Min(a, b);
    }

    public readonly struct Max : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.Max(a, b);
    }

    public readonly struct SignedMin : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.Min(a.AsInt32(), b.AsInt32()).AsUInt32();
    }

    public readonly struct SignedMax : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.Max(a.AsInt32(), b.AsInt32()).AsUInt32();
    }

    /// <summary>Distances beyond the width give 0.</summary>
    public readonly struct ShiftLeft : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Avx512F.IsSupported ? Avx512F.ShiftLeftLogicalVariable(a, b) : Each(a, b, static (x, by) => by > 31 ? 0 : x << (int)by);
    }

    /// <inheritdoc cref="ShiftLeft"/>
    public readonly struct ShiftRight : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Avx512F.IsSupported ? Avx512F.ShiftRightLogicalVariable(a, b) : Each(a, b, static (x, by) => by > 31 ? 0 : x >> (int)by);
    }

    /// <summary>Distances beyond the width give the sign.</summary>
    public readonly struct SignedShiftRight : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) =>
            Avx512F.IsSupported ? Avx512F.ShiftRightArithmeticVariable(a.AsInt32(), b).AsUInt32() : Each(a, b, static (x, by) => (uint)((int)x >> (int)Math.Min(by, 31)));
    }

    public readonly struct Equal : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.Equals(a, b);
    }

    public readonly struct NotEqual : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => ~Vector512.Equals(a, b);
    }

    public readonly struct Less : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThan(a, b);
    }

    public readonly struct LessOrEqual : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThanOrEqual(a, b);
    }

    public readonly struct SignedLess : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThan(a.AsInt32(), b.AsInt32()).AsUInt32();
    }

    public readonly struct SignedLessOrEqual : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThanOrEqual(a.AsInt32(), b.AsInt32()).AsUInt32();
    }

    private static Vector512<uint> Each(Vector512<uint> a, Vector512<uint> b, Func<uint, uint, uint> of)
    {
        Span<uint> results = stackalloc uint[16];
        for (int lane = 0; lane < 16; lane++) results[lane] = of(a[lane], b[lane]);
        return Vector512.Create<uint>(results);
    }
}

/// <summary>Integers of 64 bits.</summary>
internal static class WideIntegers
{
    public readonly struct Move : IWideUnary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a) => a;
    }

    public readonly struct Add : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => a + b;
    }

    public readonly struct Subtract : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => a - b;
    }

    public readonly struct Multiply : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => a * b;
    }

    public readonly struct MultiplyAdd : IWideTernary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b, Vector512<ulong> c) => (a * b) + c;
    }

    public readonly struct And : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => a & b;
    }

    public readonly struct Or : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => a | b;
    }

    public readonly struct Xor : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => a ^ b;
    }

    public readonly struct Not : IWideUnary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a) => ~a;
    }

    public readonly struct Negate : IWideUnary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a) => Vector512<ulong>.Zero - a;
    }

    public readonly struct Abs : IWideUnary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a) => Vector512.Abs(a.AsInt64()).AsUInt64();
    }

    public readonly struct Min : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Min(a, b);
    }

    public readonly struct Max : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Max(a, b);
    }

    public readonly struct SignedMin : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Min(a.AsInt64(), b.AsInt64()).AsUInt64();
    }

    public readonly struct SignedMax : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Max(a.AsInt64(), b.AsInt64()).AsUInt64();
    }

    public readonly struct Equal : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.Equals(a, b);
    }

    public readonly struct NotEqual : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => ~Vector512.Equals(a, b);
    }

    public readonly struct Less : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThan(a, b);
    }

    public readonly struct LessOrEqual : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThanOrEqual(a, b);
    }

    public readonly struct SignedLess : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThan(a.AsInt64(), b.AsInt64()).AsUInt64();
    }

    public readonly struct SignedLessOrEqual : IWideBinary
    {
        public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => Vector512.LessThanOrEqual(a.AsInt64(), b.AsInt64()).AsUInt64();
    }
}

/// <summary>Integers of 32 bits that become such of 64.</summary>
internal static class Widenings
{
    public readonly struct Extend : IWidening
    {
        public static Vector512<ulong> Of(Vector256<uint> a, Vector256<uint> b) => Wide(a);
    }

    public readonly struct SignedExtend : IWidening
    {
        public static Vector512<ulong> Of(Vector256<uint> a, Vector256<uint> b) => SignedWide(a);
    }

    public readonly struct Multiply : IWidening
    {
        public static Vector512<ulong> Of(Vector256<uint> a, Vector256<uint> b) => Wide(a) * Wide(b);
    }

    public readonly struct SignedMultiply : IWidening
    {
        public static Vector512<ulong> Of(Vector256<uint> a, Vector256<uint> b) => SignedWide(a) * SignedWide(b);
    }

    private static Vector512<ulong> Wide(Vector256<uint> a)
    {
        (Vector256<ulong> lower, Vector256<ulong> upper) = Vector256.Widen(a);
        return Vector512.Create(lower, upper);
    }

    private static Vector512<ulong> SignedWide(Vector256<uint> a)
    {
        (Vector256<long> lower, Vector256<long> upper) = Vector256.Widen(a.AsInt32());
        return Vector512.Create(lower, upper).AsUInt64();
    }
}

/// <summary>Operands the other way round: "greater" is "less" with them swapped.</summary>
internal readonly struct Swapped<T> : IBinary
    where T : struct, IBinary
{
    public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => T.Of(b, a);
}

/// <inheritdoc cref="Swapped{T}"/>
internal readonly struct WideSwapped<T> : IWideBinary
    where T : struct, IWideBinary
{
    public static Vector512<ulong> Of(Vector512<ulong> a, Vector512<ulong> b) => T.Of(b, a);
}
