using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>A tensor of a call, for what is alike in all of them.</summary>
internal enum CallTensor
{
    Query,
    Key,
    Value,
}

/// <summary>
/// How the sequences of a call lie along the tokens of a tensor, for the copy unit, which counts whole tokens: each in its own place of a dimension of equal steps (<see cref="IsBatched"/>), where what lies
/// behind a sequence is outside of the tensor, or all one after the other along the tokens.
/// </summary>
/// <param name="IsThere">False: neither.</param>
/// <param name="IsBatched">Whether a sequence is a step of the last dimension.</param>
/// <param name="Start">Of the map, in elements.</param>
/// <param name="Tokens">Of the map.</param>
/// <param name="Batches">Of the map.</param>
/// <param name="BatchStride">In elements.</param>
internal readonly record struct TokenAxis(bool IsThere, bool IsBatched, long Start, long Tokens, long Batches, long BatchStride)
{
    /// <param name="problem">The call, without pages where keys or values are asked for.</param>
    /// <param name="tensor">Which.</param>
    /// <param name="tokenStride">In elements; a multiple of 8, and so are all starts.</param>
    public static TokenAxis Of(AttentionProblem problem, CallTensor tensor, long tokenStride)
    {
        ReadOnlySpan<SequenceProblem> sequences = problem.Sequences;
        if (sequences.IsEmpty) return default;
        long first = StartOf(sequences[0], tensor), step = sequences.Length > 1 ? StartOf(sequences[1], tensor) - first : TileTable.VectorElements;
        long last = LengthOf(sequences[^1], tensor), longest = 0, tokens = 0;
        bool isBatched = step > 0, isRow = tokenStride > 0;
        for (int s = 0; s < sequences.Length; s++)
        {
            long start = StartOf(sequences[s], tensor), length = LengthOf(sequences[s], tensor);
            longest = Math.Max(longest, length);
            isBatched &= start == first + (s * step);
            isRow = isRow && start % tokenStride == 0 && start / TileTable.VectorElements <= uint.MaxValue;
            if (isRow) tokens = Math.Max(tokens, (start / tokenStride) + length);
        }

        // The map has the longest length everywhere, so what lies behind the last sequence must not be shorter.
        if (isBatched && longest == last && (tokenStride > 0 || longest <= 1)) return new(true, true, first, Math.Max(longest, 1), sequences.Length, step);
        return isRow ? new(true, false, 0, Math.Max(tokens, 1), 1, TileTable.VectorElements) : default;
    }

    private static long StartOf(in SequenceProblem sequence, CallTensor tensor) => tensor switch
    {
        CallTensor.Query => sequence.QueryStart,
        CallTensor.Key => sequence.KeyStart,
        _ => sequence.ValueStart,
    };

    private static long LengthOf(in SequenceProblem sequence, CallTensor tensor) => tensor == CallTensor.Query ? sequence.QueryLength : sequence.KeyLength;
}
