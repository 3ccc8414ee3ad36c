using FusedAttention.Planning;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>Which sequences have few rows here, and how their keys are split among threadgroups: the numbers for <see cref="FewRows"/> and <see cref="KeySplits"/>.</summary>
internal static class SplitTable
{
    /// <summary>
    /// Rows of a key/value head (queries times the group) up to which a sequence with more than one query is decoded: a block of the prefill kernel has as many, and from there on
    /// its products by matrices pay.
    /// </summary>
    public const int MaxRows = 32;

    /// <summary>
    /// 256 keys a split up to 16k keys, then as many as keep it to 64 splits. With 8 key/value heads of 128 in 16 bits a split of 256 keys of one head is 128 KB, and a
    /// context of 1k makes 32 threadgroups, for 8 to 40 cores.
    /// </summary>
    public const int MinKeys = 256;

    private const int MostSplits = 64;

    public static bool IsFew(AttentionProblem problem, in SequenceProblem sequence) => FewRows.Has(problem, sequence, MaxRows);

    /// <param name="visible">The keys that any query of the sequence may see.</param>
    public static KeySplits Of(KeyRange visible) => new(visible, MinKeys, MostSplits);
}
