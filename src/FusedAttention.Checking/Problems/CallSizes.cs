using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>What a plan is made from: everything about a call but the numbers in its tensors.</summary>
/// <param name="QueryType">Element type of query and output.</param>
/// <param name="KeyValueType">Element type of key and value.</param>
/// <param name="Shape">Its sizes; of a packed or paged call only heads and dimensions count.</param>
public sealed record CallSizes(TensorElementType QueryType, TensorElementType KeyValueType, AttentionShape Shape)
{
    /// <summary>Query tokens of each sequence; null for a dense call whose sequences are all alike.</summary>
    public int[]? QueryLengths { get; init; }

    /// <summary>Keys of each sequence; null together with <see cref="QueryLengths"/>.</summary>
    public int[]? KeyLengths { get; init; }

    /// <summary>Tokens a block of a paged cache; null for none.</summary>
    public int? BlockSize { get; init; }

    public bool HasMask { get; init; }

    /// <summary>Null without a bias.</summary>
    public TensorElementType? BiasType { get; init; }

    /// <summary>The bias has one row for all queries, and for all query heads of a key/value head.</summary>
    public bool HasBiasOfKeys { get; init; }

    public static CallSizes Of(CallInputs call)
    {
        var sizes = new CallSizes(
            call.Query.ElementType, call.Key.ElementType,
            new AttentionShape(call.Batch, call.QueryLength, call.KeyLength, call.Heads, call.KeyValueHeads, call.KeyDim, call.ValueDim))
        {
            BlockSize = call.Layout == SequenceLayout.Paged ? call.BlockSize : null,
            HasMask = call.Mask is not null,
            BiasType = call.Bias?.ElementType,
            HasBiasOfKeys = call.Bias is { } bias && LengthBefore(bias, 2) == 1 && (LengthBefore(bias, 3) == 1 || call.Heads == call.KeyValueHeads),
        };
        if (call.Layout == SequenceLayout.Dense && call.KeyLengths is null) return sizes;

        // With key lengths of its own, a dense call does the work of a packed one.
        int[] queries = new int[call.SequenceCount];
        int[] keys = new int[call.SequenceCount];
        for (int s = 0; s < queries.Length; s++) (_, _, queries[s], keys[s]) = call.Sequence(s);
        return sizes with { QueryLengths = queries, KeyLengths = keys };
    }

    /// <summary>A dimension counted from the end; 1 for those that a tensor leaves out.</summary>
    private static long LengthBefore(LoadedTensor tensor, int end) => tensor.Rank < end ? 1 : tensor.Shape[^end];
}
