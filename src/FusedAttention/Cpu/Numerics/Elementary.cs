using System.Runtime.CompilerServices;

namespace FusedAttention.Cpu.Numerics;

/// <summary>exp2 and tanh on vectors.</summary>
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

    // Fitted for this project by an exchange algorithm on [0, 0.625], relative error 4.4e-9 before rounding.
    private const float TanhC3 = -0.3333328f;
    private const float TanhC5 = 0.13331442f;
    private const float TanhC7 = -0.053739715f;
    private const float TanhC9 = 0.020639088f;
    private const float TanhC11 = -0.0057049873f;
}
