using System.Numerics;

namespace FusedAttention.Tests.Rotary;

/// <summary>Rotary embeddings in double precision, as complex numbers, element by element.</summary>
internal static class RotaryOracle
{
    /// <summary>Rotates one head of <paramref name="options"/>.HeadDim elements.</summary>
    public static double[] Rotate(ReadOnlySpan<float> head, int position, RotaryOptions options, ReadOnlySpan<double> frequencies, double magnitude)
    {
        var result = new double[head.Length];
        for (int i = 0; i < head.Length; i++) result[i] = head[i];
        for (int pair = 0; pair < frequencies.Length; pair++)
        {
            (int real, int imaginary) = options.Pairing == RotaryPairing.Interleaved ? (2 * pair, (2 * pair) + 1) : (pair, pair + (options.RotaryDim / 2));
            Complex turned = new Complex(head[options.Offset + real], head[options.Offset + imaginary]) * Complex.FromPolarCoordinates(magnitude, position * frequencies[pair]);
            (result[options.Offset + real], result[options.Offset + imaginary]) = (turned.Real, turned.Imaginary);
        }

        return result;
    }

    /// <summary>How far an element may be off: what the documentation of <see cref="RotaryEmbedding"/> promises, and one rounding to its type.</summary>
    public static double Tolerance(AttentionElementType type, double expected, ReadOnlySpan<float> head, double magnitude)
    {
        float largest = 0;
        foreach (float element in head) largest = Math.Max(largest, Math.Abs(element));
        double before = Math.ScaleB(2 * largest * magnitude, -22);
        return before + (type == AttentionElementType.Float32 ? 0 : Elements.HalfUlp(type, Math.Abs(expected) + before));
    }
}
