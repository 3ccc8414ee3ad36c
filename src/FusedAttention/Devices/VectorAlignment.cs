using System.Numerics;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Devices;

/// <summary>How long the vectors are that queries, keys and values can be loaded in: a vector lies at a multiple of its size.</summary>
internal static class VectorAlignment
{
    /// <summary>Elements, a power of two, by strides and starts alone: what a shape tells.</summary>
    public static long OfStrides(AttentionProblem problem)
    {
        long together = problem.QueryTokenStride | problem.QueryHeadStride | problem.KeyTokenStride | problem.KeyHeadStride | problem.ValueTokenStride | problem.ValueHeadStride
            | problem.KeyBlockStride | problem.ValueBlockStride;
        foreach (ref readonly SequenceProblem sequence in problem.Sequences) together |= sequence.QueryStart | sequence.KeyStart | sequence.ValueStart;
        return LowestBit(together);
    }

    /// <summary>Elements, a power of two, by where the tensors begin in their allocations, which begin at multiples of any vector.</summary>
    public static long OfPlaces(AttentionProblem problem, in CallMemory memory)
    {
        long query = LowestBit(memory.Query.Offset) / problem.QueryType.Size();
        long keyValue = LowestBit(memory.Key.Offset | memory.Value.Offset) / problem.KeyValueType.Size();
        return Math.Min(query, keyValue);
    }

    private static long LowestBit(long number) => number == 0 ? 1L << 62 : 1L << BitOperations.TrailingZeroCount(number);
}
