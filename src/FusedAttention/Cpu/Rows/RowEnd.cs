using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>The end of a row: sink, division by the sum, log-sum-exp, rounding to the output type.</summary>
internal static unsafe class RowEnd<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <param name="problem">The call.</param>
    /// <param name="sequence">The row's sequence.</param>
    /// <param name="query">The row's query within the sequence.</param>
    /// <param name="head">The row's query head.</param>
    /// <param name="max">The maximum m of its stored scores; negative infinity when no key was allowed.</param>
    /// <param name="sum">The sum l of its weights relative to m.</param>
    /// <param name="output">Its sum of weighted values, relative to m.</param>
    /// <param name="modification">What the stored scores stand for.</param>
    public static void Write(
        AttentionProblem problem, in SequenceProblem sequence, int query, int head, float max, float sum, float* output, in ScoreModification modification)
    {
        // In double precision, because it comes once a row; the logarithm only where it is asked for.
        double m = (double)max * modification.NaturalScale;
        double sink = problem.SinkLogits.IsEmpty ? double.NegativeInfinity : problem.SinkLogits.Span[head];
        double top = sum == 0 ? sink : m;
        double total = sum == 0 ? 1 : sum;
        double factor = sum != 0 ? 1.0 / sum : 0;
        if (sum != 0 && !double.IsNegativeInfinity(sink))
        {
            // Relative to the larger of the two, so that neither exponential overflows.
            top = Math.Max(m, sink);
            total = (sum * Math.Exp(m - top)) + Math.Exp(sink - top);
            factor = Math.Exp(m - top) / total;
        }

        long offset = sequence.OutputStart + (query * problem.OutputTokenStride) + (head * problem.OutputHeadStride);
        int size = problem.QueryType.Size();
        RowConversion<TS, TV>.ScaleAndNarrow(problem.QueryType, output, (float)factor, problem.Output + (offset * size), problem.ValueDim);
        if (problem.LogSumExp != null)
        {
            problem.LogSumExp[sequence.LogSumExpStart + (head * problem.LogSumExpHeadStride) + (query * problem.LogSumExpQueryStride)] = (float)(top + Math.Log(total));
        }
    }
}
