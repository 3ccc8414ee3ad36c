using System.Text;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Launching;

/// <summary>
/// The steps from a product to a score as calls of the functions of that name in <c>scores.metal</c>, a line each. The built-in ones are all written, and which are present is a function constant of the pipeline; those of functions
/// (<see cref="FunctionText"/>) are in the text of calls that have them.
/// </summary>
/// <param name="text">The lines so far.</param>
internal readonly struct MetalScoreSteps(StringBuilder text) : IScoreSteps
{
    /// <summary>What every kernel has lines for.</summary>
    private const ScoreSteps Always = ScoreSteps.SoftCap | ScoreSteps.Bias | ScoreSteps.Alibi | ScoreSteps.Mask;

    /// <summary>All steps, in the order of the law, and those of the call's functions among them.</summary>
    public static string Lines(ScoreSteps functions)
    {
        var text = new StringBuilder();
        var steps = new MetalScoreSteps(text);
        ScoreLaw.Apply(ref steps, Always | functions);
        return text.ToString();
    }

    public void Scale() => Line("scale(score, parameters);");

    public void SoftCap() => Line("if (has_soft_cap) cap_softly(score, parameters);");

    public void Bias() => Line("if (has_bias) add_bias(score, row, key);");

    public void Alibi() => Line("if (has_alibi) subtract_distance(score, row, tile, j);");

    public void Mask() => Line("if (has_mask) apply_mask(score, row, key);");

    public void Function() => Line("apply_function(score, row, tile, j, parameters);");

    public void MaskFunction() => Line("if (!mask_function(row.functions, row.head, row.query, int(row.position), tile, j, parameters)) score.is_seen = false;");

    private void Line(string line) => text.Append("    ").Append(line).Append('\n');
}
