using System.Runtime.InteropServices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <content>The weights themselves, which no kernel ever stores: for people who look into a model.</content>
internal static unsafe partial class WideRow<TS, TV>
{
    /// <summary>Computes <c>exp(s_j) / (sum_i exp(s_i) + exp(sink))</c>; 0 for keys that the row does not see.</summary>
    /// <param name="problem">The call; its values and outputs are not looked at.</param>
    /// <param name="sequence">The row's sequence.</param>
    /// <param name="query">The row's query within the sequence.</param>
    /// <param name="head">The row's query head.</param>
    /// <param name="weights">Receives one number for each key of the sequence.</param>
    public static void Weigh(AttentionProblem problem, in SequenceProblem sequence, int query, int head, Span<double> weights)
    {
        float* queryRow = (float*)NativeMemory.Alloc((nuint)problem.KeyDim * 2 * sizeof(float));
        try
        {
            float* keyRow = queryRow + problem.KeyDim;
            RowConversion<TS, TV>.Widen(problem.QueryType, problem.QueryOf(sequence, query, head), queryRow, problem.KeyDim);
            KeyRange range = problem.RangeOf(sequence, query);
            var visibility = new RowVisibility(problem, sequence, query, head);
            var score = new WideScore(problem, sequence, query, head);
            nint keyOffset = (nint)(head / problem.Group * problem.KeyHeadStride * problem.KeyValueType.Size());
            double sink = problem.SinkLogits.IsEmpty ? double.NegativeInfinity : problem.SinkLogits.Span[head], max = sink;
            weights.Fill(double.NegativeInfinity);
            for (int key = range.Start; key < range.End; key++)
            {
                if (!visibility.Sees(key)) continue;
                nint at, unused;
                KeyRows.Locate(problem, sequence, key, key + 1, &at, &unused);
                RowConversion<TS, TV>.Widen(problem.KeyValueType, (byte*)(at + keyOffset), keyRow, problem.KeyDim);
                weights[key] = score.Of(Dot(queryRow, keyRow, problem.KeyDim) * ScaleOf(problem, sequence, problem.KeyScale, sequence.KeyScaleStart, head / problem.Group, key), key);
                max = Math.Max(max, weights[key]);
            }

            Normalize(weights, sink, max);
        }
        finally
        {
            NativeMemory.Free(queryRow);
        }
    }

    /// <param name="scores">Negative infinity where nothing is seen; become weights.</param>
    /// <param name="sink">The sink's logit.</param>
    /// <param name="max">The largest score, NaN if there is one, the sink's logit included.</param>
    private static void Normalize(Span<double> scores, double sink, double max)
    {
        if (double.IsNegativeInfinity(max))
        {
            scores.Clear();
            return;
        }

        double sum = Math.Exp(sink - max);
        foreach (ref double score in scores) sum += score = double.IsNegativeInfinity(score) ? 0 : Math.Exp(score - max);
        foreach (ref double weight in scores) weight /= sum;
    }
}
