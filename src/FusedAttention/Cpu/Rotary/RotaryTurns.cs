namespace FusedAttention.Cpu.Rotary;

/// <summary>A rotary embedding as kernels see it: the elements of a head that are rotated, how they are paired, and the angles.</summary>
/// <param name="HeadDim">Elements of a head.</param>
/// <param name="Start">The first that is rotated.</param>
/// <param name="Pairs">How many pairs are.</param>
/// <param name="IsInterleaved">Whether the elements of a pair lie side by side, or half of the rotated ones apart.</param>
/// <param name="Angles">By position and pair.</param>
internal sealed record RotaryTurns(int HeadDim, int Start, int Pairs, bool IsInterleaved, RotaryAngles Angles)
{
    /// <summary>One past the last element that is rotated.</summary>
    public int End => Start + (2 * Pairs);

    /// <summary>From the first element of a pair to the second.</summary>
    public int Distance => IsInterleaved ? 1 : Pairs;

    /// <summary>The first element of a pair.</summary>
    public int ElementOf(int pair) => Start + (IsInterleaved ? 2 * pair : pair);
}
