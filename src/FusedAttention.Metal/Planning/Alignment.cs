using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>Whether queries, keys and values may be loaded four elements at a time: vectors must lie at multiples of their size.</summary>
internal static class Alignment
{
    private const int Elements = 4;

    /// <summary>By strides and starts alone.</summary>
    public static bool Allows(AttentionProblem problem)
    {
        long together = problem.QueryTokenStride | problem.QueryHeadStride | problem.KeyTokenStride | problem.KeyHeadStride | problem.ValueTokenStride | problem.ValueHeadStride
            | problem.KeyBlockStride | problem.ValueBlockStride;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences) together |= sequence.QueryStart | sequence.KeyStart | sequence.ValueStart;
        return together % Elements == 0;
    }

    /// <summary>By where the tensors begin in memory, whose own beginning is aligned.</summary>
    public static bool Allows(AttentionProblem problem, CallMemory memory) =>
        memory.Query.Offset % (Elements * problem.QueryType.Size()) == 0
        && memory.Key.Offset % (Elements * problem.KeyValueType.Size()) == 0
        && memory.Value.Offset % (Elements * problem.KeyValueType.Size()) == 0;
}
