using FusedAttention.Problems;

namespace FusedAttention.Planning;

/// <summary>Which sequences are decoded: those with few rows, whose time is that of reading keys and values. With more rows arithmetic counts, and tiles of rows pay.</summary>
internal static class FewRows
{
    /// <summary>
    /// Whether a sequence has one query, whatever the group, or at most <paramref name="mostRows"/> rows a key/value head (queries times the group). By its own rows alone, since the kernel shows in the
    /// bits; with <see cref="AttentionProblem.RowInvariant"/> never, since all rows get the same arithmetic.
    /// </summary>
    /// <param name="problem">The call.</param>
    /// <param name="sequence">A sequence of it.</param>
    /// <param name="mostRows">From how many rows on the backend's kernel for many rows pays, less one.</param>
    public static bool Has(AttentionProblem problem, in SequenceProblem sequence, int mostRows) =>
        !problem.RowInvariant && (sequence.QueryLength == 1 || (long)sequence.QueryLength * problem.Group <= mostRows);
}
