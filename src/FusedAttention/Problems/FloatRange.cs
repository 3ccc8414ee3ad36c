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
    public static bool Holds(float scale, float softCap, ReadOnlySpan<float> slopes)
    {
        foreach (float slope in slopes)
        {
            if (Math.Abs(slope) > LargestSlope) return false;
        }

        return scale is >= SmallestScale and <= LargestScale && softCap is 0 or (>= SmallestSoftCap and <= LargestSoftCap);
    }
}
