using System.Runtime.CompilerServices;

namespace FusedAttention.Cpu.Numerics;

/// <summary>exp2, exp, log and tanh on vectors.</summary>
internal static class Elementary<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>
    /// 2^x for x at most about 127: relative error 2e-7, exactly 1 at 0, exactly 0 below -126 (negative infinity included), NaN for NaN.
    /// </summary>
    /// <remarks>
    /// x = n + f with an integer n; a degree-6 polynomial for 2^f on [-1/2, 1/2], minimax in relative error under the constraint of 1 at 0 (2.6e-9 before rounding; degree 5
    /// would leave 4.3e-7); times 2^n.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Exp2(TV x)
    {
        TV exponent = TS.SplitExponent(x, out TV f);
        TV p = TS.MultiplyAdd(f, TS.Create(0.00015594678f), TS.Create(0.0013406643f));
        p = TS.MultiplyAdd(f, p, TS.Create(0.009617693f));
        p = TS.MultiplyAdd(f, p, TS.Create(0.055503103f));
        p = TS.MultiplyAdd(f, p, TS.Create(0.24022652f));
        p = TS.MultiplyAdd(f, p, TS.Create(0.69314724f));
        p = TS.MultiplyAdd(f, p, TS.Create(1f));
        return TS.ScaleByExponent(p, exponent, x);
    }

    /// <summary>2^x of one number, by the same arithmetic.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Exp2(float x) => TS.First(Exp2(TS.Create(x)));

    /// <summary>e^x for any x: relative error 5e-7 (7e-6 at the ends of the range without fused products), 0 and infinity beyond it, NaN for NaN.</summary>
    /// <remarks>
    /// The square of 2^h for h = x log2(e) / 2, so that neither overflow nor subnormal results need a branch. What rounding takes from h, times ln 4, comes back as a factor: left out, it would cost |x| times the
    /// precision of a float.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Exp(TV x)
    {
        x = TS.Select(TS.LessThan(TS.Create(LargestExponent), x), TS.Create(LargestExponent), x);
        x = TS.Select(TS.LessThan(x, TS.Create(-200f)), TS.Create(-200f), x);
        TV half = TS.Multiply(x, TS.Create(HalfLog2E));
        TV lost = TS.MultiplyAdd(x, TS.Create(HalfLog2E), TS.Subtract(TS.Zero, half));
        lost = TS.MultiplyAdd(x, TS.Create(HalfLog2ERest), lost);
        TV e = Exp2(half);
        return TS.Multiply(e, TS.MultiplyAdd(e, TS.Multiply(lost, TS.Create(1.38629436f)), e));
    }

    /// <summary>ln(x): error below 3e-7 of the result or, near 1, of x - 1; negative infinity for 0, NaN below it and for NaN.</summary>
    /// <remarks>x = 2^n m with m around 1, and ln m = 2 artanh((m - 1) / (m + 1)), whose series in the square of an argument of at most 0.172 leaves 2e-9 after five terms.</remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Log(TV x)
    {
        TV tiny = TS.LessThan(x, TS.Create(SmallestNormal));
        TV n = TS.SplitLogarithm(TS.Select(tiny, TS.Multiply(x, TS.Create(16777216f)), x), out TV m);
        n = TS.Subtract(n, TS.Select(tiny, TS.Create(24f), TS.Zero));
        TV f = TS.Subtract(m, TS.Create(1f));
        TV s = TS.Divide(f, TS.Add(f, TS.Create(2f)));
        TV z = TS.Multiply(s, s);
        TV p = TS.MultiplyAdd(z, TS.Create(2f / 9), TS.Create(2f / 7));
        p = TS.MultiplyAdd(z, p, TS.Create(2f / 5));
        p = TS.MultiplyAdd(z, p, TS.Create(2f / 3));
        TV rest = TS.MultiplyAdd(TS.Multiply(s, z), p, TS.Multiply(n, TS.Create(Ln2Rest)));
        TV result = TS.MultiplyAdd(n, TS.Create(Ln2), TS.Add(TS.Add(s, s), rest));
        result = TS.Select(TS.LessThan(x, TS.Create(float.PositiveInfinity)), result, x);
        result = TS.Select(TS.Equal(x, TS.Zero), TS.Create(float.NegativeInfinity), result);
        return TS.Select(TS.LessThan(x, TS.Zero), TS.Create(float.NaN), result);
    }

    /// <summary>tanh(x): relative error below 4e-7; NaN for NaN.</summary>
    /// <remarks>
    /// Below 0.625 an odd polynomial in x (1 - 2 / (e^2x + 1) would cancel there); above it the exponential. Soft caps scale the result by up to 50 or so, which is why
    /// small arguments deserve their full precision.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static TV Tanh(TV x)
    {
        TV magnitude = TS.Abs(x);
        TV square = TS.Multiply(x, x);
        TV p = TS.MultiplyAdd(square, TS.Create(TanhC11), TS.Create(TanhC9));
        p = TS.MultiplyAdd(square, p, TS.Create(TanhC7));
        p = TS.MultiplyAdd(square, p, TS.Create(TanhC5));
        p = TS.MultiplyAdd(square, p, TS.Create(TanhC3));
        TV small = TS.MultiplyAdd(TS.Multiply(x, square), p, x);

        // tanh rounds to 1 from 9.01 on; clamped so that the exponential stays finite. NaN passes through the other branch of the selection.
        TV clamped = TS.Select(TS.LessThan(magnitude, TS.Create(10f)), magnitude, TS.Create(10f));
        TV exponential = Exp2(TS.Multiply(clamped, TS.Create(2.885390082f)));
        TV large = TS.Subtract(TS.Create(1f), TS.Divide(TS.Create(2f), TS.Add(exponential, TS.Create(1f))));
        TV signed = TS.Select(TS.LessThan(x, TS.Zero), TS.Subtract(TS.Zero, large), large);
        TV result = TS.Select(TS.LessThan(magnitude, TS.Create(0.625f)), small, signed);
        return TS.Select(TS.Equal(x, x), result, x);
    }

    /// <summary>Half of log2(e), and what its rounding leaves.</summary>
    private const float HalfLog2E = 0.7213475f;
    private const float HalfLog2ERest = (float)(0.72134752044448170368 - HalfLog2E);

    /// <summary>2^127, squared, is infinity; below it <see cref="Exp2(TV)"/> is right.</summary>
    private const float LargestExponent = 176f;

    private const float SmallestNormal = 1.17549435e-38f;

    /// <summary>ln 2 in 15 bits, whose products with exponents are exact, and the rest.</summary>
    private const float Ln2 = 0.693145752f;
    private const float Ln2Rest = 1.42860677e-6f;

    // Fitted for this project by an exchange algorithm on [0, 0.625], relative error 4.4e-9 before rounding.
    private const float TanhC3 = -0.3333328f;
    private const float TanhC5 = 0.13331442f;
    private const float TanhC7 = -0.053739715f;
    private const float TanhC9 = 0.020639088f;
    private const float TanhC11 = -0.0057049873f;
}
