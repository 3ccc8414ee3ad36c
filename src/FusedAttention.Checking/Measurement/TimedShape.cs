using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Measurement;

/// <summary>A shape that a backend wants to be timed on.</summary>
/// <param name="Name">What a table calls it.</param>
/// <param name="Shape">The shape.</param>
/// <param name="Target">What the backend's design aims at, in TFLOP/s or, where memory is the limit, GB/s; null for nothing.</param>
/// <param name="Variant">A form of the backend's kernels, by the backend's name for it; null for the one that calls get.</param>
public sealed record TimedShape(string Name, CallShape Shape, double? Target = null, string? Variant = null)
{
    /// <summary>Decoding reads keys and values and does little with them; everything else is arithmetic.</summary>
    public bool IsBoundByMemory => Shape.QueryLength == 1;
}
