using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Elementary functions for scores, as exact as 32 bits allow up to a few units: the approximations of the special function unit are relative to 1 and not to the result where that is small.</summary>
internal static class Elementary
{
    private const float Log2E = 1.44269504f;

    /// <summary>ln 2 in 15 bits, whose products with exponents are exact, and the rest.</summary>
    private const float Ln2 = 0.693145752f;
    private const float Ln2Rest = 1.42860677e-6f;

    private const float SmallestNormal = 1.17549435e-38f;

    /// <summary>sqrt(1/2): a float's bits less these have in their exponent's place the power of two that leaves a number around 1.</summary>
    private const int BitsOfRootHalf = 0x3F3504F3;

    /// <summary>e^x: relative error 3e-7, 0 and infinity beyond the range, NaN for NaN.</summary>
    /// <remarks>
    /// 2^n e^r with a whole n, and r of a few tenths, which the special function unit takes to 2 units. From n = 127 on, where 2^n would end, the rest stays in r; below n = -150 everything is 0.
    /// </remarks>
    public static F32 Exp(F32 x)
    {
        F32 whole = F32.Min(F32.Max(F32.From("cvt.rni.f32.f32", F32.From("mul.rn.f32", x, (F32)Log2E)), -150), 127);
        F32 rest = F32.MultiplyAdd(whole, -Ln2Rest, F32.MultiplyAdd(whole, -Ln2, x));
        return F32.From("mul.rn.f32", F32.From("mul.rn.f32", rest, (F32)Log2E).Exp2(), whole.Exp2WithSubnormals());
    }

    /// <summary>ln(x): error below 3e-7 of the result or, near 1, of x - 1; negative infinity for 0, NaN below it and for NaN.</summary>
    /// <remarks>x = 2^n m with m around 1, and ln m = 2 artanh((m - 1) / (m + 1)), whose series in the square of an argument of at most 0.172 leaves 2e-9 after five terms.</remarks>
    public static F32 Log(F32 x)
    {
        Predicate isTiny = x < SmallestNormal;
        I32 bits = F32.Select(isTiny, F32.From("mul.rn.f32", x, (F32)16777216f), x).AsI32();
        I32 exponent = (bits - BitsOfRootHalf) >> 23;
        F32 n = F32.From("add.rn.f32", exponent.ToF32(), F32.Select(isTiny, -24, 0));
        F32 f = F32.From("sub.rn.f32", (bits - (exponent << 23)).AsF32(), (F32)1);
        F32 s = f / F32.From("add.rn.f32", f, (F32)2);
        F32 z = F32.From("mul.rn.f32", s, s);
        F32 p = F32.MultiplyAdd(z, 2f / 9, 2f / 7);
        p = F32.MultiplyAdd(z, p, 2f / 5);
        p = F32.MultiplyAdd(z, p, 2f / 3);
        F32 rest = F32.MultiplyAdd(F32.From("mul.rn.f32", s, z), p, F32.From("mul.rn.f32", n, (F32)Ln2Rest));
        F32 result = F32.MultiplyAdd(n, Ln2, F32.From("add.rn.f32", F32.From("add.rn.f32", s, s), rest));
        result = F32.Select(x < float.PositiveInfinity, result, x);
        result = F32.Select(x.Is(0), float.NegativeInfinity, result);
        return F32.Select(x < 0, float.NaN, result);
    }

    /// <summary>sqrt(x), exact for squares of whole numbers; NaN of what is negative.</summary>
    /// <remarks>x times the approximate 1 / sqrt(x), and what that lacks: as sqrt.rn does it, which ends in a branch for what is subnormal, and with it the assembler's order among the operations of other keys.</remarks>
    public static F32 Sqrt(F32 x)
    {
        F32 reciprocal = F32.From("rsqrt.approx.f32", x), root = F32.From("mul.rn.f32", x, reciprocal);
        F32 better = F32.MultiplyAdd(F32.From("mul.rn.f32", F32.MultiplyAdd(-root, root, x), (F32)0.5f), reciprocal, root);
        return F32.Select(x.Is(0) | x.Is(float.PositiveInfinity), x, better);
    }

    /// <summary>Whether <see cref="Quotient"/> takes a divisor: neither it nor its reciprocal is near the ends of the range, nor are its digits all ones, which the proof leaves out.</summary>
    public static bool MayDivideBy(float divisor) => Math.Abs(divisor) is >= 1e-18f and <= 1e18f && (BitConverter.SingleToInt32Bits(divisor) & 0x7FFFFF) != 0x7FFFFF;

    /// <summary>a / b, correctly rounded, for a constant: infinite where that is.</summary>
    public static F32 Quotient(F32 a, float divisor)
    {
        F32 quotient = F32.From("mul.rn.f32", a, (F32)(1 / divisor));
        return IsPowerOfTwo(divisor) ? quotient : F32.Select(quotient.IsFinite(), QuotientOfFinite(a, divisor), quotient);
    }

    /// <summary>a / b, correctly rounded, for a constant; NaN of what is infinite.</summary>
    /// <remarks>A product with the rounded reciprocal, and what it lacks times the same (Markstein 1990, "Computation of elementary functions on the IBM RISC System/6000 processor").</remarks>
    public static F32 QuotientOfFinite(F32 a, float divisor)
    {
        F32 reciprocal = 1 / divisor, quotient = F32.From("mul.rn.f32", a, reciprocal);
        return IsPowerOfTwo(divisor) ? quotient : F32.MultiplyAdd(F32.MultiplyAdd(quotient, -divisor, a), reciprocal, quotient);
    }

    private static bool IsPowerOfTwo(float value) => (BitConverter.SingleToInt32Bits(value) & 0x7FFFFF) == 0;

    /// <summary>a - b trunc(a / b), which is exact for whole numbers below 2^24.</summary>
    public static F32 Remainder(F32 a, F32 b, F32 quotient) => F32.MultiplyAdd(-F32.From("cvt.rzi.f32.f32", quotient), b, a);
}
