namespace FusedAttention.Cpu.Rotary;

/// <summary>The heads of one token: where the first is, what it consists of, and how far apart they are.</summary>
/// <param name="First">The first element of the first head.</param>
/// <param name="Type">Of the elements.</param>
/// <param name="Stride">From head to head, in elements.</param>
internal readonly unsafe record struct HeadRows(nint First, AttentionElementType Type, long Stride);

/// <summary>Pairs of the heads of one token, what turns them, and where they go. Source and destination are the same memory, or do not overlap.</summary>
internal readonly unsafe ref struct RotaryHeads
{
    public HeadRows Source { get; init; }

    public HeadRows Destination { get; init; }

    public int Heads { get; init; }

    /// <summary>The first element of the first pair, within a head.</summary>
    public int First { get; init; }

    /// <summary>From the first element of a pair to the second; 1 for pairs side by side.</summary>
    public int Distance { get; init; }

    public int Pairs { get; init; }

    public float* Cosines { get; init; }

    public float* Sines { get; init; }
}
