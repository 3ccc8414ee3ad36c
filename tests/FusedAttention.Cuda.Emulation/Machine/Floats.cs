using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Floats of 32 bits. Arithmetic rounds to nearest even, keeps subnormals, and gives the one NaN of the hardware.</summary>
internal static class Floats
{
    public const uint NotANumber = 0x7FFFFFFF;

    public readonly struct Add : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() + b.AsSingle());
    }

    public readonly struct Subtract : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() - b.AsSingle());
    }

    public readonly struct Multiply : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() * b.AsSingle());
    }

    public readonly struct Divide : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(a.AsSingle() / b.AsSingle());
    }

    public readonly struct MultiplyAdd : ITernary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => Canonical(Vector512.FusedMultiplyAdd(a.AsSingle(), b.AsSingle(), c.AsSingle()));
    }

    /// <summary>Of a number and NaN, the number; -0 is below +0.</summary>
    public readonly struct Min : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.MinNumber(a.AsSingle(), b.AsSingle()));
    }

    /// <inheritdoc cref="Min"/>
    public readonly struct Max : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.MaxNumber(a.AsSingle(), b.AsSingle()));
    }

    /// <summary>Of a number and NaN, NaN.</summary>
    public readonly struct MinOrNaN : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.Min(a.AsSingle(), b.AsSingle()));
    }

    /// <inheritdoc cref="MinOrNaN"/>
    public readonly struct MaxOrNaN : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Canonical(Vector512.Max(a.AsSingle(), b.AsSingle()));
    }

    public readonly struct Negate : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => a ^ Vector512.Create(0x80000000u);
    }

    public readonly struct Abs : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => a & Vector512.Create(0x7FFFFFFFu);
    }

    /// <summary>The sign of a, the rest of b.</summary>
    public readonly struct CopySign : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => (a & Vector512.Create(0x80000000u)) | (b & Vector512.Create(0x7FFFFFFFu));
    }

    public readonly struct Reciprocal : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => Canonical(Vector512<float>.One / a.AsSingle());
    }

    public readonly struct SquareRoot : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => Canonical(Vector512.Sqrt(a.AsSingle()));
    }

    public readonly struct Equal : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.Equals(a.AsSingle(), b.AsSingle()).AsUInt32();
    }

    public readonly struct Less : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThan(a.AsSingle(), b.AsSingle()).AsUInt32();
    }

    public readonly struct LessOrEqual : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThanOrEqual(a.AsSingle(), b.AsSingle()).AsUInt32();
    }

    /// <summary>Whether neither is NaN.</summary>
    public readonly struct AreNumbers : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => (Vector512.Equals(a.AsSingle(), a.AsSingle()) & Vector512.Equals(b.AsSingle(), b.AsSingle())).AsUInt32();
    }

    public readonly struct NotEqual : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => AreNumbers.Of(a, b) & ~Equal.Of(a, b);
    }

    /// <summary>Exponent below all ones.</summary>
    public readonly struct IsFinite : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThan(Abs.Of(a), Vector512.Create(0x7F800000u));
    }

    public readonly struct IsInfinite : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.Equals(Abs.Of(a), Vector512.Create(0x7F800000u));
    }

    public readonly struct IsNumber : IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Vector512.LessThanOrEqual(Abs.Of(a), Vector512.Create(0x7F800000u));
    }

    /// <summary>What does not hold of the other comparison: unordered ones.</summary>
    public readonly struct Not<T> : IBinary
        where T : struct, IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => ~T.Of(a, b);
    }

    /// <summary>The result between 0 and 1, and 0 for NaN.</summary>
    public readonly struct Saturated<T> : IBinary
        where T : struct, IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Saturate(T.Of(a, b));
    }

    /// <summary>Subnormal operands and results are zero, with their sign.</summary>
    public readonly struct Flushed<T> : IBinary
        where T : struct, IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => Flush(T.Of(Flush(a), Flush(b)));
    }

    /// <summary>A comparison of operands whose subnormals are zero.</summary>
    public readonly struct FlushedComparison<T> : IBinary
        where T : struct, IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => T.Of(Flush(a), Flush(b));
    }

    /// <inheritdoc cref="Flushed{T}"/>
    public readonly struct FlushedUnary<T> : IUnary
        where T : struct, IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => Flush(T.Of(Flush(a)));
    }

    /// <inheritdoc cref="Flushed{T}"/>
    public readonly struct FlushedTernary<T> : ITernary
        where T : struct, ITernary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => Flush(T.Of(Flush(a), Flush(b), Flush(c)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Canonical(Vector512<float> value) =>
        Vector512.ConditionalSelect(Vector512.Equals(value, value).AsUInt32(), value.AsUInt32(), Vector512.Create(NotANumber));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<uint> Flush(Vector512<uint> value) =>
        Vector512.ConditionalSelect(Vector512.LessThan(Abs.Of(value), Vector512.Create(0x00800000u)), value & Vector512.Create(0x80000000u), value);

    private static Vector512<uint> Saturate(Vector512<uint> value) => Vector512.Min(Vector512.MaxNumber(value.AsSingle(), Vector512<float>.Zero), Vector512<float>.One).AsUInt32();
}
