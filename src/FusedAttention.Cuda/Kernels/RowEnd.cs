using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>The end of a row: the sink, division by the sum, the log-sum-exp.</summary>
/// <param name="Factor">What the row's sum of weighted values is multiplied with.</param>
/// <param name="LogSumExp">Natural logarithm.</param>
internal readonly record struct RowEnd(F32 Factor, F32 LogSumExp)
{
    private const float Ln2 = 0.693147180559945309417f;
    private const float Log2E = 1.44269504088896340736f;

    /// <summary>From the maximum m of the row's scores, in units of <paramref name="unit"/> natural logarithms, and the sum l of its weights relative to m. A row without keys has l = 0.</summary>
    /// <param name="call">The call.</param>
    /// <param name="row">The row.</param>
    /// <param name="maximum">m.</param>
    /// <param name="sum">l, of the weights that values were weighted with.</param>
    /// <param name="unit">Of m.</param>
    /// <param name="exactSum">l, of the weights before they were rounded, for the log-sum-exp; null: the same.</param>
    public static RowEnd Of(CallReader call, RowReader row, F32 maximum, F32 sum, F32 unit, F32? exactSum = null)
    {
        exactSum ??= sum;
        F32 m = maximum * unit;
        Predicate isEmpty = sum.Is(0);
        if (!call.Traits.Has(CallFeatures.Sinks))
        {
            return new(
                F32.Select(isEmpty, 0, sum.Reciprocal()),
                F32.Select(isEmpty, float.NegativeInfinity, F32.MultiplyAdd(exactSum.Log2(), Ln2, m)));
        }

        // Relative to the larger of sink and m, so that neither exponential overflows; an empty row has m = -inf and the weight 0.
        F32 sink = call.SinkLogit(row.Head);
        F32 top = F32.Max(sink, F32.Select(isEmpty, float.NegativeInfinity, m));
        F32 @base = F32.Select(top.Is(float.NegativeInfinity), 0, top);
        F32 weight = F32.Select(isEmpty, 0, ((m - @base) * Log2E).Exp2WithSubnormals());
        F32 sinkWeight = ((sink - @base) * Log2E).Exp2WithSubnormals();
        F32 total = F32.MultiplyAdd(sum, weight, sinkWeight);
        F32 exactTotal = exactSum == sum ? total : F32.MultiplyAdd(exactSum, weight, sinkWeight);
        Predicate hasNothing = total.Is(0);
        return new(
            F32.Select(hasNothing, 0, weight / total),
            F32.Select(hasNothing, float.NegativeInfinity, F32.MultiplyAdd(exactTotal.Log2(), Ln2, top)));
    }
}
