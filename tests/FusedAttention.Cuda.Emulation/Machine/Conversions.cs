using System.Numerics;
using System.Runtime.Intrinsics;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>From one type to another.</summary>
internal static class Conversions
{
    /// <summary>How a float becomes an integer.</summary>
    public interface IRounding
    {
        static abstract double Of(double value);
    }

    public readonly struct ToNearest : IRounding
    {
        public static double Of(double value) => Math.Round(value, MidpointRounding.ToEven);
    }

    public readonly struct Towards0 : IRounding
    {
        public static double Of(double value) => Math.Truncate(value);
    }

    public readonly struct Down : IRounding
    {
        public static double Of(double value) => Math.Floor(value);
    }

    public readonly struct Up : IRounding
    {
        public static double Of(double value) => Math.Ceiling(value);
    }

    /// <summary>Keeps the low bits, or widens by the source's sign; a register that is wider than the result has it with the result's own sign.</summary>
    public readonly struct Truncate<TRegister, TResult, TSource> : IScalar<TRegister, TSource, TSource>
        where TRegister : unmanaged, IBinaryInteger<TRegister>
        where TResult : unmanaged, IBinaryInteger<TResult>
        where TSource : unmanaged, IBinaryInteger<TSource>
    {
        public static TRegister Of(TSource a, TSource b) => TRegister.CreateTruncating(TResult.CreateTruncating(a));
    }

    /// <summary>The nearest value that the result can have.</summary>
    public readonly struct Saturate<TRegister, TResult, TSource> : IScalar<TRegister, TSource, TSource>
        where TRegister : unmanaged, IBinaryInteger<TRegister>
        where TResult : unmanaged, IBinaryInteger<TResult>
        where TSource : unmanaged, IBinaryInteger<TSource>
    {
        public static TRegister Of(TSource a, TSource b) => TRegister.CreateTruncating(TResult.CreateSaturating(a));
    }

    /// <summary>Ties to even.</summary>
    public readonly struct ToFloat<TSource> : IScalar<float, TSource, TSource>
        where TSource : unmanaged, IBinaryInteger<TSource>
    {
        public static float Of(TSource a, TSource b) => float.CreateTruncating(a);
    }

    /// <summary>Rounded, and then the nearest value that the result can have; NaN is 0.</summary>
    public readonly struct ToInteger<TResult, TRounding> : IScalar<TResult, float, float>
        where TResult : unmanaged, IBinaryInteger<TResult>
        where TRounding : struct, IRounding
    {
        public static TResult Of(float a, float b) => float.IsNaN(a) ? TResult.Zero : TResult.CreateSaturating(TRounding.Of(a));
    }

    /// <summary>A float without a fraction.</summary>
    public readonly struct ToWhole<TRounding> : IScalar<float, float, float>
        where TRounding : struct, IRounding
    {
        public static float Of(float a, float b) => float.IsNaN(a) ? BitConverter.UInt32BitsToSingle(Floats.NotANumber) : (float)TRounding.Of(a);
    }

    public readonly struct ToHalf<T> : IUnary
        where T : struct, IHalf
    {
        public static Vector512<uint> Of(Vector512<uint> a) => T.Narrow(a.AsSingle());
    }

    /// <summary>Bits beyond those of the format are cut off.</summary>
    public readonly struct ToHalfTowards0<T> : IScalar<ushort, float, float>
        where T : struct, IHalf
    {
        public static ushort Of(float a, float b)
        {
            ushort nearest = T.NarrowOne(a);
            return MathF.Abs(T.WidenOne(nearest)) > MathF.Abs(a) ? (ushort)(nearest - 1) : nearest;
        }
    }

    public readonly struct FromHalf<T> : IUnary
        where T : struct, IHalf
    {
        public static Vector512<uint> Of(Vector512<uint> a)
        {
            Vector512<float> wide = T.Widen(a & Vector512.Create(0xFFFFu));
            return Floats.Canonical(wide);
        }
    }

    /// <summary>The first operand becomes the high half.</summary>
    public readonly struct ToPair<T> : IBinary
        where T : struct, IHalf
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => (T.Narrow(a.AsSingle()) << 16) | T.Narrow(b.AsSingle());
    }

    /// <summary>Infinite and larger values become the largest finite one.</summary>
    public readonly struct ToPairFinite<T> : IBinary
        where T : struct, IHalf
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => ToPair<T>.Of(Clamp(a), Clamp(b));

        private static Vector512<uint> Clamp(Vector512<uint> x) => Vector512.Max(Vector512.Min(x.AsSingle(), Vector512.Create(T.Largest)), Vector512.Create(-T.Largest)).AsUInt32();
    }

    /// <summary>Negative values become zero.</summary>
    public readonly struct ToPairPositive<T> : IBinary
        where T : struct, IHalf
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b) => ToPair<T>.Of(Vector512.Max(a.AsSingle(), Vector512<float>.Zero).AsUInt32(), Vector512.Max(b.AsSingle(), Vector512<float>.Zero).AsUInt32());
    }

    /// <summary>Two codes of 4 bits of exponent and 3 of fraction, NaN where all of these are set, as two halves.</summary>
    public readonly struct FromFloat8 : IUnary
    {
        public static Vector512<uint> Of(Vector512<uint> a) => One(a & Vector512.Create(0xFFu)) | (One((a >> 8) & Vector512.Create(0xFFu)) << 16);

        private static Vector512<uint> One(Vector512<uint> code)
        {
            Vector512<uint> magnitude = code & Vector512.Create(0x7Fu);
            Vector512<float> value = (magnitude << 20).AsSingle() * Vector512.Create(MathF.ScaleB(1, 120));
            Vector512<uint> half = Vector512.ConditionalSelect(Vector512.Equals(magnitude, Vector512.Create(0x7Fu)), Vector512.Create(0x7FFFu), Binary16.Narrow(value));
            return half | ((code & Vector512.Create(0x80u)) << 8);
        }
    }

    /// <summary>Products and sums of two halves in each lane, each rounded once: the product is exact in 32 bits, and so is the sum wherever its halves are not 2^13 apart.</summary>
    public readonly struct PairwiseMultiplyAdd<T> : ITernary
        where T : struct, IHalf
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => (High(a, b, c) << 16) | Low(a, b, c);

        private static Vector512<uint> Low(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c)
        {
            Vector512<uint> mask = Vector512.Create(0xFFFFu);
            return T.Narrow(Floats.MultiplyAdd.Of(T.Widen(a & mask).AsUInt32(), T.Widen(b & mask).AsUInt32(), T.Widen(c & mask).AsUInt32()).AsSingle());
        }

        private static Vector512<uint> High(Vector512<uint> a, Vector512<uint> b, Vector512<uint> c) => Low(a >> 16, b >> 16, c >> 16);
    }

    /// <summary>Arithmetic of two halves in each lane, by way of floats and one rounding more where a product and a sum are fused.</summary>
    public readonly struct Pairwise<T, TOperation> : IBinary
        where T : struct, IHalf
        where TOperation : struct, IBinary
    {
        public static Vector512<uint> Of(Vector512<uint> a, Vector512<uint> b)
        {
            Vector512<uint> low = TOperation.Of(T.Widen(a & Vector512.Create(0xFFFFu)).AsUInt32(), T.Widen(b & Vector512.Create(0xFFFFu)).AsUInt32());
            Vector512<uint> high = TOperation.Of(T.Widen(a >> 16).AsUInt32(), T.Widen(b >> 16).AsUInt32());
            return (T.Narrow(high.AsSingle()) << 16) | T.Narrow(low.AsSingle());
        }
    }
}
