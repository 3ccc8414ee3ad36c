using System.Runtime.CompilerServices;

namespace FusedAttention.Problems;

/// <summary>
/// The keys <c>[Start, End)</c> that positions alone allow: causal mask, window and sequence length. For one query they are always one interval,
/// and for consecutive queries the union is one too, because both ends move by at most one a query. Kernels of the processor ask here; those of a GPU spell the same two clamps.
/// </summary>
internal readonly record struct KeyRange(int Start, int End)
{
    /// <summary>A reach that no position exceeds: positions stay within +-2^41.</summary>
    public const long Unbounded = 1L << 60;

    public bool IsEmpty => Start >= End;

    public int Length => Math.Max(0, End - Start);

    /// <summary>The range of the query at <paramref name="position"/> on the key axis.</summary>
    /// <param name="position">May lie outside the keys on either side.</param>
    /// <param name="leftReach">Keys allowed before the position, or <see cref="Unbounded"/>.</param>
    /// <param name="rightReach">Keys allowed after the position: 0 when causal.</param>
    /// <param name="keys">Keys of the sequence.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static KeyRange Of(long position, long leftReach, long rightReach, int keys) => new(
        (int)Math.Clamp(position - leftReach, 0, keys),
        (int)Math.Clamp(position + rightReach + 1, 0, keys));

    /// <summary>The union of the ranges of consecutive queries, given the first and the last position.</summary>
    public static KeyRange Of(long firstPosition, long lastPosition, long leftReach, long rightReach, int keys) => new(
        Of(firstPosition, leftReach, rightReach, keys).Start,
        Of(lastPosition, leftReach, rightReach, keys).End);

    /// <summary>The part in [start, end), which may reach past 2^31.</summary>
    public KeyRange Intersect(long start, long end) => new((int)Math.Max(Start, start), (int)Math.Min(End, end));
}
