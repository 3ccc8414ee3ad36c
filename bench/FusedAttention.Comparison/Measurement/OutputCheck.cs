using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Measurement;

/// <summary>Whether outputs agree: every peer's with ours, and ours with double precision on a sample of rows.</summary>
internal static class OutputCheck
{
    private const int SampledRows = 16;

    /// <summary>
    /// The largest difference that passes for rounding, with outputs of a few units at most (the first causal rows are single values). In 16 bits that is the rounding of the output, and
    /// of whatever a peer accumulates in 16 bits.
    /// </summary>
    public static double Tolerance(AttentionElementType type) => type switch
    {
        AttentionElementType.Float32 => 1e-4,
        AttentionElementType.Float16 => 1e-2,
        _ => 4e-2,
    };

    /// <summary>The largest absolute difference; not a number or infinity if one of the two is.</summary>
    public static double MaxAbsoluteError(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double worst = 0;
        for (int i = 0; i < a.Length; i++)
        {
            double error = Math.Abs((double)a[i] - b[i]);
            if (!(error <= worst)) worst = error;
            if (double.IsNaN(worst)) break;
        }

        return worst;
    }

    /// <summary>The largest absolute error of an output <c>[query][head][dim]</c> on rows spread over queries and heads.</summary>
    public static double SampledError(AttentionCase c, CaseInputs inputs, ReadOnlySpan<float> output)
    {
        double worst = 0;
        int rows = c.Queries * c.QueryHeads;
        double[] expected = new double[c.Dim];
        float[] actual = new float[c.Dim];
        for (int i = 0; i < SampledRows; i++)
        {
            // First and last row included; the step in between moves through the heads too.
            int row = (int)((long)i * (rows - 1) / (SampledRows - 1));
            (int query, int head) = Math.DivRem(row, c.QueryHeads);
            ExactRow(c, inputs, query, head, expected);
            output.Slice(row * c.Dim, c.Dim).CopyTo(actual);
            for (int d = 0; d < c.Dim; d++)
            {
                double error = Math.Abs(expected[d] - actual[d]);
                if (!(error <= worst)) worst = error;
            }
        }

        return worst;
    }

    private static void ExactRow(AttentionCase c, CaseInputs inputs, int query, int head, double[] output)
    {
        int keyHead = head / (c.QueryHeads / c.KeyValueHeads);
        int keys = c.IsCausal ? query + c.Keys - c.Queries + 1 : c.Keys;
        float[] q = new float[c.Dim];
        float[] row = new float[c.Dim];
        ElementRow.Load(c.Type, inputs.Query, (((long)query * c.QueryHeads) + head) * c.Dim, q);
        double[] weights = new double[keys];
        for (int key = 0; key < keys; key++)
        {
            ElementRow.Load(c.Type, inputs.Key, (((long)key * c.KeyValueHeads) + keyHead) * c.Dim, row);
            double score = 0;
            for (int d = 0; d < c.Dim; d++) score += (double)q[d] * row[d];
            weights[key] = score * c.Scale;
        }

        double max = weights.Max();
        double sum = 0;
        Array.Clear(output);
        for (int key = 0; key < keys; key++)
        {
            double weight = Math.Exp(weights[key] - max);
            sum += weight;
            ElementRow.Load(c.Type, inputs.Value, (((long)key * c.KeyValueHeads) + keyHead) * c.Dim, row);
            for (int d = 0; d < c.Dim; d++) output[d] += weight * row[d];
        }

        for (int d = 0; d < c.Dim; d++) output[d] /= sum;
    }
}
