using System.Collections.Immutable;

namespace FusedAttention;

/// <summary>The slopes of ALiBi: attention with linear biases (Press, Smith, Lewis 2021, arXiv:2108.12409).</summary>
public static class AlibiSlopes
{
    /// <summary>
    /// The paper's slopes for any number of heads. With <c>c</c> the largest power of two not above <paramref name="heads"/>: heads <c>0..c-1</c> have
    /// <c>2^(-8 (h+1) / c)</c>, and heads <c>c..</c> have every other slope of the list for <c>2c</c>: <c>2^(-8 (2 (h-c) + 1) / (2c))</c>.
    /// </summary>
    /// <param name="heads">The number of query heads, 1 or more.</param>
    /// <returns>One slope per head, computed in double precision and rounded once.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="heads"/> is below 1.</exception>
    public static ImmutableArray<float> ForHeads(int heads)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(heads, 1);
        int c = 1 << System.Numerics.BitOperations.Log2((uint)heads);
        var slopes = ImmutableArray.CreateBuilder<float>(heads);
        for (int h = 0; h < heads; h++)
        {
            double exponent = h < c ? -8.0 * (h + 1) / c : -8.0 * (2 * (h - c) + 1) / (2.0 * c);
            slopes.Add((float)Math.Pow(2, exponent));
        }

        return slopes.MoveToImmutable();
    }
}
