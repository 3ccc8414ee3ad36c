using System.Text;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// The steps from a product to a score as calls of the functions of that name in <c>scores.metal</c>, a line each. All steps are written; which are present is a function constant of the pipeline.
/// </summary>
/// <param name="text">The lines so far.</param>
internal readonly struct MetalScoreSteps(StringBuilder text) : IScoreSteps
{
    private const ScoreSteps All = ScoreSteps.SoftCap | ScoreSteps.Bias | ScoreSteps.Alibi | ScoreSteps.Mask;

    /// <summary>All steps, in the order of the law.</summary>
    public static string Lines()
    {
        var text = new StringBuilder();
        var steps = new MetalScoreSteps(text);
        ScoreLaw.Apply(ref steps, All);
        return text.ToString();
    }

    public void Scale() => Line("scale(score, parameters);");

    public void SoftCap() => Line("if (has_soft_cap) cap_softly(score, parameters);");

    public void Bias() => Line("if (has_bias) add_bias(score, row, key);");

    public void Alibi() => Line("if (has_alibi) subtract_distance(score, row, tile, j);");

    public void Mask() => Line("if (has_mask) apply_mask(score, row, key);");

    public void Function() => throw new InvalidOperationException("The kernels have no functions.");

    public void MaskFunction() => throw new InvalidOperationException("The kernels have no functions.");

    private void Line(string line) => text.Append("    ").Append(line).Append('\n');
}
