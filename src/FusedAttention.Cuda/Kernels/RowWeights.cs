using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Weights of a row relative to its maximum.</summary>
/// <remarks>
/// Bare products: <c>exp2(s c - m c)</c> with one rounded product <c>m c</c> for all of the row, whose error all weights share and the division takes out: one multiply-add each. Scores in natural units
/// may be as low as the most negative float (a bias), whose product with log2(e) would overflow: there <c>exp2((s - m) c)</c>.
/// </remarks>
internal sealed class RowWeights
{
    private readonly bool _isNatural;
    private readonly F32 _base;
    private readonly F32 _factor;

    /// <param name="call">The call.</param>
    /// <param name="maximum">Of the row so far; negative infinity where it has seen nothing.</param>
    /// <param name="factor">Powers of two in a unit of scores.</param>
    public RowWeights(CallReader call, F32 maximum, F32 factor)
    {
        _isNatural = ScoreWriter.HasNaturalScores(call.Traits);
        F32 @base = ScoreWriter.BaseOf(maximum);
        (_base, _factor) = (_isNatural ? @base : -(@base * factor), factor);
    }

    public F32 Of(F32 score) => (_isNatural ? (score - _base) * _factor : F32.MultiplyAdd(score, _factor, _base)).Exp2();
}
