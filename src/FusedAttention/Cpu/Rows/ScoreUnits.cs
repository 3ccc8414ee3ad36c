using FusedAttention.Problems;

namespace FusedAttention.Cpu.Rows;

/// <summary>
/// The units of a call's stored scores, the same for all its rows. Where nothing but masks are applied to dot products they are stored as they are, and the scale goes into the exponential.
/// </summary>
internal readonly struct ScoreUnits
{
    private const double Log2E = 1.4426950408889634;
    private const ScoreSteps InNaturalUnits = ScoreSteps.SoftCap | ScoreSteps.Bias | ScoreSteps.Alibi | ScoreSteps.Function;

    public ScoreUnits(AttentionProblem problem)
    {
        Steps = problem.Steps;
        SoftCap = problem.SoftCap;
        ScoreFunction = problem.BoundScore;
        MaskFunction = problem.BoundMask;
        bool natural = (Steps & InNaturalUnits) != ScoreSteps.None;
        ScaleOfPasses = natural ? problem.Scale : 1;
        NaturalScale = natural ? 1 : problem.Scale;
        Factor = (float)(NaturalScale * Log2E);
    }

    /// <summary>What the scores go through.</summary>
    public ScoreSteps Steps { get; }

    public float SoftCap { get; }

    /// <summary>The call's score function; null without one.</summary>
    public BoundScore? ScoreFunction { get; }

    /// <summary>The call's mask function; null without one.</summary>
    public BoundMask? MaskFunction { get; }

    /// <summary>Scores go from the dot product straight to the exponential: no pass between.</summary>
    public bool IsPlain => Steps == ScoreSteps.None;

    /// <summary>What the passes multiply dot products with: the scale if something is added to the scores, else 1.</summary>
    public float ScaleOfPasses { get; }

    /// <summary>What turns a stored score into one in units of the natural logarithm: the scale if the passes leave it out, else 1.</summary>
    public float NaturalScale { get; }

    /// <summary>What turns a stored score into an exponent of 2.</summary>
    public float Factor { get; }
}
