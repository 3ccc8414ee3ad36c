namespace FusedAttention.Cpu.Rows;

/// <summary>How scores become exponents, the same for all rows of a call.</summary>
internal readonly struct ScoreModification
{
    private const double Log2E = 1.4426950408889634;

    public ScoreModification(float scale, float softCap, bool alibi, AttentionElementType? bias, bool mask)
    {
        SoftCap = softCap;
        bool needsNaturalUnits = softCap > 0 || alibi || bias is not null;
        IsPlain = !needsNaturalUnits && !mask;
        BiasType = bias ?? AttentionElementType.Float32;
        ScaleOfPasses = needsNaturalUnits ? scale : 1;
        NaturalScale = needsNaturalUnits ? 1 : scale;
        Factor = (float)(NaturalScale * Log2E);
    }

    /// <summary>What the passes multiply dot products with: the scale if something is added to the scores, else 1.</summary>
    public float ScaleOfPasses { get; }

    public float SoftCap { get; }

    /// <summary>Scores go from the dot product straight to the exponential: no pass between.</summary>
    public bool IsPlain { get; }

    public AttentionElementType BiasType { get; }

    /// <summary>What turns a stored score into one in units of the natural logarithm: the scale if the passes leave it out, else 1.</summary>
    public float NaturalScale { get; }

    /// <summary>What turns a stored score into an exponent of 2.</summary>
    public float Factor { get; }
}
