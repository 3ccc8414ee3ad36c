using System.Numerics.Tensors;
using FusedAttention.Checking.Oracle;
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

    /// <summary>
    /// The same for a peer's output beside ours. Over keys of 8 bits ggml rounds queries to 8 bits too, which shifts scores of N(0, 1) by about 0.01: a share of the largest output, whose size falls with the number of keys.
    /// </summary>
    public static double PeerTolerance(AttentionCase c, ReadOnlySpan<float> expected) => c.IsEightBit ? 2e-2 * Math.Abs((double)TensorPrimitives.MaxMagnitude(expected)) : Tolerance(c.Type);

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
        for (int i = 0; i < SampledRows; i++)
        {
            // First and last row included; the step in between moves through the heads too.
            int row = (int)((long)i * (rows - 1) / (SampledRows - 1));
            (int query, int head) = Math.DivRem(row, c.QueryHeads);
            double[] expected = ExactRow(c, inputs, query, head);
            ReadOnlySpan<float> actual = output.Slice(row * c.Dim, c.Dim);
            for (int d = 0; d < c.Dim; d++)
            {
                double error = Math.Abs(expected[d] - actual[d]);
                if (!(error <= worst)) worst = error;
            }
        }

        return worst;
    }

    /// <summary>A row by the oracle, as a problem of one query and one head.</summary>
    private static double[] ExactRow(AttentionCase c, CaseInputs inputs, int query, int head)
    {
        int keyHead = head / (c.QueryHeads / c.KeyValueHeads);
        var problem = NaiveProblem.Create(
            queries: 1, c.Keys, heads: 1, keyValueHeads: 1, c.Dim, c.Dim,
            Rows(c, c.QueryType, inputs.Query, null, first: (query * c.QueryHeads) + head, step: 0, count: 1),
            Rows(c, c.Type, inputs.Key, inputs.KeyScale, keyHead, c.KeyValueHeads, c.Keys),
            Rows(c, c.Type, inputs.Value, inputs.ValueScale, keyHead, c.KeyValueHeads, c.Keys),
            new AttentionOptions { Mask = c.Mask, Scale = c.Scale }, queryOffset: (long)query + c.Keys - c.Queries);
        return NaiveAttention.Compute(problem).Output;
    }

    private static double[] Rows(AttentionCase c, AttentionElementType type, AlignedBuffer tensor, AlignedBuffer? scales, int first, int step, int count)
    {
        double[] rows = new double[(long)count * c.Dim];
        float[] row = new float[c.Dim];
        for (int i = 0; i < count; i++)
        {
            long token = first + ((long)i * step);
            ElementRow.Load(type, tensor, token * c.Dim, row);
            double scale = scales is null ? 1 : scales.Elements<float>(token, 1)[0];
            for (int d = 0; d < c.Dim; d++) rows[((long)i * c.Dim) + d] = scale * row[d];
        }

        return rows;
    }
}
