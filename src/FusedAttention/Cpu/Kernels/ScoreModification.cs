using FusedAttention.Problems;

namespace FusedAttention.Cpu.Kernels;

/// <summary>How scores become exponents, the same for all rows of a call.</summary>
internal readonly struct ScoreModification
{
    private const double Log2E = 1.4426950408889634;

    public ScoreModification(float scale, float softCap, bool alibi, AttentionElementType? bias, bool mask)
    {
        Scale = scale;
        SoftCap = softCap;
        IsPlain = softCap == 0 && !alibi && bias is null && !mask;
        BiasType = bias ?? AttentionElementType.Float32;
        BiasSize = BiasType.Size();
        NaturalScale = IsPlain ? scale : 1;
        Factor = (float)(NaturalScale * Log2E);
    }

    public float Scale { get; }

    public float SoftCap { get; }

    /// <summary>Scores go from the dot product straight to the exponential; scale and log2(e) are one factor.</summary>
    public bool IsPlain { get; }

    public AttentionElementType BiasType { get; }

    public int BiasSize { get; }

    /// <summary>What turns a stored score into one in units of the natural logarithm: the scale when plain, else 1.</summary>
    public float NaturalScale { get; }

    /// <summary>What turns a stored score into an exponent of 2.</summary>
    public float Factor { get; }
}
