namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Sums and products of floats rounded towards zero or one of the infinities: from the exact result in double precision, and what the double lost.</summary>
internal static class DirectedRounding
{
    /// <summary>Which way.</summary>
    public interface IDirection
    {
        /// <summary>Whether a result that was rounded to <paramref name="nearest"/> has to be one step nearer to where the rounding goes.</summary>
        /// <param name="nearest">The nearest float.</param>
        /// <param name="excess">Its sign says on which side of the exact result the nearest float is: positive, above.</param>
        static abstract float Correct(float nearest, double excess);
    }

    public readonly struct Down : IDirection
    {
        public static float Correct(float nearest, double excess) => excess > 0 ? MathF.BitDecrement(nearest) : nearest;
    }

    public readonly struct Up : IDirection
    {
        public static float Correct(float nearest, double excess) => excess < 0 ? MathF.BitIncrement(nearest) : nearest;
    }

    public readonly struct Towards0 : IDirection
    {
        public static float Correct(float nearest, double excess) => nearest > 0 && excess > 0 ? MathF.BitDecrement(nearest) : nearest < 0 && excess < 0 ? MathF.BitIncrement(nearest) : nearest;
    }

    public readonly struct Add<TDirection> : IScalar<float, float, float>
        where TDirection : struct, IDirection
    {
        public static float Of(float a, float b) => Sum<TDirection>(a, b);
    }

    public readonly struct Subtract<TDirection> : IScalar<float, float, float>
        where TDirection : struct, IDirection
    {
        public static float Of(float a, float b) => Sum<TDirection>(a, -b);
    }

    /// <summary>A product of two floats is exact in double precision.</summary>
    public readonly struct Multiply<TDirection> : IScalar<float, float, float>
        where TDirection : struct, IDirection
    {
        public static float Of(float a, float b) => Round<TDirection>((double)a * b, 0);
    }

    /// <summary>Subnormal operands and results are zero.</summary>
    public readonly struct Flushed<T> : IScalar<float, float, float>
        where T : struct, IScalar<float, float, float>
    {
        public static float Of(float a, float b) => Flush(T.Of(Flush(a), Flush(b)));

        private static float Flush(float x) => float.IsSubnormal(x) ? MathF.CopySign(0, x) : x;
    }

    private static float Sum<TDirection>(double a, double b)
        where TDirection : struct, IDirection
    {
        // Knuth's two-sum: what the double precision sum lost, exactly.
        double sum = a + b, part = sum - a;
        double lost = (a - (sum - part)) + (b - part);
        return Round<TDirection>(sum, lost);
    }

    private static float Round<TDirection>(double value, double lost)
        where TDirection : struct, IDirection
    {
        float nearest = (float)value;
        if (float.IsNaN(nearest)) return BitConverter.UInt32BitsToSingle(Floats.NotANumber);
        if (double.IsInfinity(value)) return nearest;
        double excess = nearest - value;
        return TDirection.Correct(nearest, excess != 0 ? excess : -lost);
    }
}
