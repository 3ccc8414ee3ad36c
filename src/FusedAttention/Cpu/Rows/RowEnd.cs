using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Rows;

/// <summary>
/// The end of a row: sink, division by the sum, log-sum-exp, rounding to the output type. A row that 32-bit arithmetic could not hold is computed again by <see cref="WideRow{TS, TV}"/>.
/// </summary>
internal static unsafe class RowEnd<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>Writes a row; one whose output is not finite in all columns is computed again.</summary>
    public static void Write(
        AttentionProblem problem, in SequenceProblem sequence, int query, int head, float max, float sum, float* output, in ScoreUnits units)
    {
        TV check = TS.Zero;
        float factor = Write(problem, sequence, query, head, max, sum, output, units, ref check);
        if (TS.Sum(check) != 0) WideRow<TS, TV>.Write(problem, sequence, query, head, output, factor);
    }

    /// <summary>Writes a row, and leaves it to the caller to look at <paramref name="check"/> after many of them.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="sequence">The row's sequence.</param>
    /// <param name="query">The row's query within the sequence.</param>
    /// <param name="head">The row's query head.</param>
    /// <param name="max">The maximum m of its stored scores; negative infinity when no key was allowed.</param>
    /// <param name="sum">The sum l of its weights relative to m; NaN for a row that is to be computed again.</param>
    /// <param name="output">Its sum of weighted values, relative to m.</param>
    /// <param name="units">What the stored scores stand for.</param>
    /// <param name="check">Stays 0 in all lanes while every output is finite.</param>
    /// <returns>What made the output of the sum of weighted values.</returns>
    public static float Write(
        AttentionProblem problem, in SequenceProblem sequence, int query, int head, float max, float sum, float* output, in ScoreUnits units, ref TV check)
    {
        if (float.IsNaN(sum))
        {
            WideRow<TS, TV>.Write(problem, sequence, query, head);
            return 0;
        }

        double factor = Factor(problem, head, max, sum, units, out double top, out double total);

        // The factor is 1 at most, as the largest weight is 1: outputs are finite where the sums are. Looking at the products as they are rounded took so many registers that a prefill of 512 tokens
        // to binary16 was 2 % slower (AVX2, D = 128).
        FloatChecks<TS, TV>.AddNotFinite(output, problem.ValueDim, ref check);
        RowConversion<TS, TV>.ScaleAndNarrow(problem.QueryType, output, (float)factor, problem.OutputOf(sequence, query, head), problem.ValueDim);
        float* logSumExp = problem.LogSumExpOf(sequence, query, head);
        if (logSumExp != null) *logSumExp = (float)(top + Math.Log(total));
        return (float)factor;
    }

    /// <summary>Writes a row's log-sum-exp once more, of another sum: that of weights as they are, where <see cref="Write(AttentionProblem, in SequenceProblem, int, int, float, float, float*, in ScoreUnits)"/> had that of rounded ones.</summary>
    public static void WriteLogSumExp(AttentionProblem problem, in SequenceProblem sequence, int query, int head, float max, float sum, in ScoreUnits units)
    {
        Factor(problem, head, max, sum, units, out double top, out double total);
        *problem.LogSumExpOf(sequence, query, head) = (float)(top + Math.Log(total));
    }

    /// <summary>What makes the output of the sum of weighted values. In double precision, because it comes once a row; the logarithm only where it is asked for.</summary>
    private static double Factor(AttentionProblem problem, int head, float max, float sum, in ScoreUnits units, out double top, out double total)
    {
        double m = (double)max * units.NaturalScale;
        double sink = problem.SinkLogits.IsEmpty ? double.NegativeInfinity : problem.SinkLogits.Span[head];
        top = sum == 0 ? sink : m;
        total = sum == 0 ? 1 : sum;
        double factor = sum != 0 ? 1.0 / sum : 0;
        if (sum != 0 && !double.IsNegativeInfinity(sink))
        {
            // Relative to the larger of the two, so that neither exponential overflows.
            top = Math.Max(m, sink);
            total = (sum * Math.Exp(m - top)) + Math.Exp(sink - top);
            factor = Math.Exp(m - top) / total;
        }

        return factor;
    }
}
