using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// How parts of a row's keys are brought together, one after the other: <c>m' = max(m, m_i)</c>, <c>l' = l exp(m - m') + l_i exp(m_i - m')</c>, and O like l. Splits of <see cref="DecodeTile.SplitKeys"/> keys are
/// folded into groups, and groups into the whole, each level in order.
/// </summary>
/// <remarks>
/// Nothing here depends on who folds: a block that has several splits of its own, or the last one to arrive, which reads what others have left. The first part of a fold is taken as it is, so that a group of one split is that
/// split and the whole of one group is that group, to the bit. Items of any size have the same bits then, and a call may choose them by what else it has to do.
/// </remarks>
internal static class SplitFold
{
    /// <summary>Takes one more part into a row's m and l; the weights are for its elements of O.</summary>
    /// <param name="maximum">m, in place.</param>
    /// <param name="sum">l, in place.</param>
    /// <param name="partMaximum">The part's m.</param>
    /// <param name="partSum">The part's l.</param>
    /// <param name="factor">Of the exponential.</param>
    public static (F32 Before, F32 Part) Take(F32 maximum, F32 sum, F32 partMaximum, F32 partSum, F32 factor)
    {
        F32 together = F32.Max(maximum, partMaximum), @base = ScoreWriter.BaseOf(together);
        F32 before = ScoreWriter.WeightOf(maximum, @base, factor), part = ScoreWriter.WeightOf(partMaximum, @base, factor);
        maximum.Set(together);
        sum.Set(F32.MultiplyAdd(sum, before, partSum * part));
        return (before, part);
    }

    /// <summary>Takes the part's element into one of O.</summary>
    public static void Take(F32 output, F32 part, (F32 Before, F32 Part) weights) =>
        output.Set(F32.MultiplyAdd(output, WeightFor(output, weights.Before), part * WeightFor(part, weights.Part)));

    /// <summary>An infinite or undefined sum stays what it is whatever its weight, which may have become 0.</summary>
    public static F32 WeightFor(F32 sum, F32 weight) => F32.Select(sum.IsFinite(), weight, 1);
}
