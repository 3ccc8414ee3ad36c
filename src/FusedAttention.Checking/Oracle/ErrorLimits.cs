using System.Numerics.Tensors;
using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Oracle;

/// <summary>
/// How far a sound kernel may be from the exact result when no reference says so. With u the unit roundoff of the element type (2^-24, 2^-11, 2^-8), S the size of
/// the row's scores and max|v| over the finite keys and values of the row's head:
/// <code>
/// output        max|v| * (2u + 2^-24 * (16 + 4S))      weights and result rounded to the element type; scores and sums kept in 32 bits
/// log-sum-exp   1e-5 + 1e-6 |lse| + 2^-22 * S
/// </code>
/// S = Scale * |q| * max|k| (the rounding of a dot product grows with the norms, whatever cancels) + the mean of |score| under the row's weights, which
/// brings in bias and ALiBi.
/// </summary>
public static class ErrorLimits
{
    /// <summary>Scores of this size come from "most negative finite" biases, which exclude keys in all but name and are exact after any rounding.</summary>
    private const double MaskSize = 1e30;

    public static double UnitRoundoff(TensorElementType type) => type switch
    {
        TensorElementType.Float16 => Math.ScaleB(1, -11),
        TensorElementType.BFloat16 => Math.ScaleB(1, -8),
        _ => Math.ScaleB(1, -24),
    };

    /// <summary>The limits of every row of a sequence, <c>[heads, queries]</c>.</summary>
    public static (double[] Output, double[] LogSumExp) Of(NaiveProblem problem, NaiveResult result, TensorElementType type)
    {
        double unit = 2 * UnitRoundoff(type);
        double[] output = new double[problem.Heads * problem.Queries];
        double[] logSumExp = new double[output.Length];
        double[] keyNorm = MaxPerHead(problem.Key, problem.KeyValueHeads, problem.KeyDim, static row => Math.Sqrt(TensorPrimitives.SumOfSquares(row)));
        double[] maxValue = MaxPerHead(problem.Value, problem.KeyValueHeads, problem.ValueDim, static row => Math.Abs(TensorPrimitives.MaxMagnitude(row)));
        for (int row = 0; row < output.Length; row++)
        {
            (int head, int query) = (row / problem.Queries, row % problem.Queries);
            int kvHead = head / (problem.Heads / problem.KeyValueHeads);
            ReadOnlySpan<double> q = problem.Query.AsSpan(((query * problem.Heads) + head) * problem.KeyDim, problem.KeyDim);
            double meanScore = result.ScoreSize[row] < MaskSize ? result.ScoreSize[row] : 0;
            double size = (problem.Scale * Math.Sqrt(TensorPrimitives.SumOfSquares(q)) * keyNorm[kvHead]) + meanScore;
            output[row] = maxValue[kvHead] * (unit + (Math.ScaleB(1, -24) * (16 + (4 * size))));
            logSumExp[row] = 1e-5 + (1e-6 * Math.Abs(result.LogSumExp[row])) + Math.ScaleB(size, -22);
        }

        return (output, logSumExp);
    }

    private static double[] MaxPerHead(double[] tokens, int heads, int dim, Func<ReadOnlySpan<double>, double> measure)
    {
        double[] max = new double[heads];
        for (int row = 0; row < tokens.Length / dim; row++)
        {
            // An infinite or NaN token decides what the rows that see it must be, and has no say in how exact the others are.
            double size = measure(tokens.AsSpan(row * dim, dim));
            if (double.IsFinite(size)) max[row % heads] = Math.Max(max[row % heads], size);
        }

        return max;
    }
}
