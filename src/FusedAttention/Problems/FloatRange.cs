using System.Globalization;

namespace FusedAttention.Problems;

/// <summary>
/// How far 32-bit arithmetic is trusted. Inside these limits no dot product, scaled score or sum with a bias can overflow or lose itself among subnormals; calls and rows outside of them are computed in
/// double precision, or refused where a backend has none.
/// </summary>
/// <remarks>
/// With keys up to 2^40, 4,096 dimensions, and queries that times the scale stay within 2^50, scaled dot products stay below 2^102, which the most negative float, 2^128, still absorbs without becoming
/// infinite; queries of at most 2^60 keep the products themselves below 2^112. At the other end, products below 2^-126 lose at most 2^-150 each: times 4,096 dimensions and the largest scale, 2^10, that is
/// 2^-128, nothing. Model weights and activations stay within 2^+-20.
/// </remarks>
internal static class FloatRange
{
    /// <summary>2^40: the largest element of a key.</summary>
    public const float LargestKey = 1099511627776f;

    /// <summary>2^31: the largest scale of a key of 8-bit codes, which are at most 448.</summary>
    public const float LargestKeyScale = LargestKey / 512;

    /// <summary>What a dot product may exceed the largest query by: 2^40 x 4,096.</summary>
    private const float ProductOverQuery = LargestKey * 4096;

    /// <summary>2^-60.</summary>
    public const float SmallestScale = 1 / (LargestKey * 1048576);

    public const float LargestScale = 1024;

    /// <summary>2^-40.</summary>
    public const float SmallestSoftCap = 1 / LargestKey;

    /// <summary>2^60.</summary>
    public const float LargestSoftCap = LargestKey * 1048576;

    /// <summary>2^60: times the largest distance still far below the most negative float.</summary>
    public const float LargestSlope = LargestKey * 1048576;

    /// <summary>2^24: integers up to it are floats.</summary>
    public const long LargestDistance = 1L << 24;

    /// <summary>The largest element of a query under this scale: 2^60, or less where a scale above 2^-10 makes more of it.</summary>
    public static float LargestQuery(float scale) => Math.Min(LargestKey * 1048576, LargestKey * 1024 / scale);

    /// <summary>The largest dot product under this scale.</summary>
    public static float LargestProduct(float scale) => LargestQuery(scale) * ProductOverQuery;

    /// <summary>Whether a call's own numbers are inside the limits.</summary>
    public static bool Holds(float scale, float softCap, ReadOnlySpan<float> slopes) => HoldsScale(scale) && HoldsSoftCap(softCap) && FirstSteep(slopes) < 0;

    /// <summary>Refuses a call that leaves the limits, for a backend that has no double precision to compute it in.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="backend">The backend, as users know it.</param>
    /// <exception cref="NotSupportedException">The call's numbers are beyond the limits; the message has the number and its limits.</exception>
    public static void Require(AttentionProblem problem, string backend)
    {
        if (!problem.IsBeyondFloats) return;
        (string what, string limits) = Excess(problem.Scale, problem.SoftCap, problem.AlibiSlopes.Span);
        throw new NotSupportedException($"{what}; the {backend} kernels compute in 32 bits and take {limits}. The CPU has no such limit.");
    }

    private static (string What, string Limits) Excess(float scale, float softCap, ReadOnlySpan<float> slopes)
    {
        if (!HoldsScale(scale)) return (string.Create(CultureInfo.InvariantCulture, $"The scale is {scale}"), "scales from 2^-60 to 2^10");
        if (!HoldsSoftCap(softCap)) return (string.Create(CultureInfo.InvariantCulture, $"SoftCap is {softCap}"), "soft caps from 2^-40 to 2^60");
        int head = FirstSteep(slopes);
        return (string.Create(CultureInfo.InvariantCulture, $"AlibiSlopes[{head}] is {slopes[head]}"), "slopes up to 2^60");
    }

    private static bool HoldsScale(float scale) => scale is >= SmallestScale and <= LargestScale;

    private static bool HoldsSoftCap(float softCap) => softCap is 0 or (>= SmallestSoftCap and <= LargestSoftCap);

    /// <summary>The first head whose slope is beyond the limit, or -1.</summary>
    private static int FirstSteep(ReadOnlySpan<float> slopes)
    {
        for (int head = 0; head < slopes.Length; head++)
        {
            if (Math.Abs(slopes[head]) > LargestSlope) return head;
        }

        return -1;
    }
}
