namespace FusedAttention.Samples.TextGeneration.Model;

/// <summary>How a model tells positions apart.</summary>
internal enum PositionSignal
{
    /// <summary>Attention scores fall off linearly with distance.</summary>
    Alibi,

    /// <summary>Queries and keys are rotated by their position, in pairs (2i, 2i + 1).</summary>
    Rotary,
}

/// <summary>The sizes of a decoder-only transformer with RMSNorm, grouped-query attention and a gated feed-forward layer.</summary>
internal sealed record ModelConfig
{
    /// <summary>Numbers in a token's vector.</summary>
    public required int Dim { get; init; }

    public required int Layers { get; init; }

    public required int Heads { get; init; }

    public required int KeyValueHeads { get; init; }

    public required int HeadDim { get; init; }

    /// <summary>Numbers in the middle of the feed-forward layer.</summary>
    public required int FeedForward { get; init; }

    public required int Vocabulary { get; init; }

    public required PositionSignal Positions { get; init; }

    /// <summary>The longest text it was trained on, in tokens.</summary>
    public required int TrainedContext { get; init; }

    public float NormEpsilon { get; init; } = 1e-5f;

    public double RotaryBase { get; init; } = 10_000;
}
