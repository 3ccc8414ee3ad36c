using System.Numerics.Tensors;

namespace FusedAttention.Samples.TextGeneration.Model;

/// <summary>What happens to rows between the matrix products. Row by row, so that a row's bits do not depend on its neighbours.</summary>
internal static class Elementwise
{
    /// <summary><c>y = x / sqrt(mean(x^2) + epsilon) * weight</c> (Zhang, Sennrich 2019, arXiv:1910.07467).</summary>
    public static void RmsNorm(ReadOnlySpan<float> x, ReadOnlySpan<float> weight, float epsilon, Span<float> y)
    {
        int dim = weight.Length;
        for (int start = 0; start < x.Length; start += dim)
        {
            ReadOnlySpan<float> row = x.Slice(start, dim);
            float scale = 1 / MathF.Sqrt((MatrixProduct.SumOfSquares(row) / dim) + epsilon);
            Span<float> result = y.Slice(start, dim);
            for (int i = 0; i < dim; i++) result[i] = row[i] * scale * weight[i];
        }
    }

    /// <summary><c>gate = gate * sigmoid(gate) * up</c> (Shazeer 2020, arXiv:2002.05202).</summary>
    public static void GatedSilu(Span<float> gate, ReadOnlySpan<float> up, int width)
    {
        float[] sigmoid = new float[width];
        for (int start = 0; start < gate.Length; start += width)
        {
            Span<float> row = gate.Slice(start, width);
            TensorPrimitives.Sigmoid(row, sigmoid);
            TensorPrimitives.Multiply(row, sigmoid, row);
            TensorPrimitives.Multiply(row, up.Slice(start, width), row);
        }
    }
}
