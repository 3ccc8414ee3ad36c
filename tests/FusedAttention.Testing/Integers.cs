namespace FusedAttention.Testing;

/// <summary>What is lost where 8-bit keys and values are multiplied by 16-bit integers, as the promises have it: multiples of a power of two for queries, and of 1/32767 of a row's and tile's largest weight.</summary>
internal static class Integers
{
    private const int TileKeys = 128;

    /// <summary>Of each element of a query, what rounding it to the multiples of 2^-14 of the power of two of the largest takes away.</summary>
    public static double[] Lost(ReadOnlySpan<float> query)
    {
        double largest = 0;
        foreach (float x in query) largest = Math.Max(largest, Math.Abs((double)x));
        double[] lost = new double[query.Length];
        if (largest == 0 || !double.IsFinite(largest)) return lost;
        double step = Math.ScaleB(1, Math.Max(Math.ILogB(largest) - 14, -126));
        for (int d = 0; d < lost.Length; d++) lost[d] = query[d] - (Math.Round(query[d] / step) * step);
        return lost;
    }

    /// <summary>
    /// By how much the outputs of a row may be off because weights, times the scales of their values, are off by half a step at most: the step is 1/32767 of the largest in a tile of 128 keys. At worst all are off in one
    /// direction; of many, 6 standard deviations of a uniform error are 1.74 steps times the root of the squares of what they multiply.
    /// </summary>
    public static double[] WeightErrors(Problem problem, int s, int head, int[] keys, double[] weights)
    {
        int dim = problem.ValueDim;
        double[] worst = new double[dim], squares = new double[dim];
        foreach (IGrouping<int, int> tile in Enumerable.Range(0, keys.Length).GroupBy(n => keys[n] / TileKeys))
        {
            double step = tile.Max(n => weights[n] * Scale(n)) / short.MaxValue;
            foreach (int n in tile)
            {
                double scale = Scale(n);
                for (int d = 0; d < dim && scale > 0; d++)
                {
                    double code = problem.Value[s][(((keys[n] * problem.KeyValueHeads) + head) * dim) + d];
                    worst[d] += step / 2 * Math.Abs(code);
                    squares[d] += step * code * (step * code);
                }
            }
        }

        return [.. worst.Select((all, d) => Math.Min(all, 1.74 * Math.Sqrt(squares[d])))];

        double Scale(int n)
        {
            float[]? scales = problem.ValueScales?[s];
            return scales is null || scales.Length == 0 ? 1 : Math.Abs(scales[((keys[n] * problem.KeyValueHeads) + head) * dim / (problem.Value[s].Length / scales.Length)]);
        }
    }
}
