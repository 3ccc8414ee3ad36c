using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>The sizes, types and mask of a call whose sequences are all alike and whose numbers do not matter: what is timed, and what is explained without a call.</summary>
public sealed record CallShape
{
    public required int Batch { get; init; }

    public required int QueryHeads { get; init; }

    public required int KeyValueHeads { get; init; }

    public required int QueryLength { get; init; }

    public required int KeyLength { get; init; }

    public required int KeyDim { get; init; }

    public required int ValueDim { get; init; }

    public required TensorElementType QueryType { get; init; }

    public required TensorElementType KeyValueType { get; init; }

    public required AttentionMask Mask { get; init; }

    /// <summary>Tokens a block of a paged cache; null for a dense call.</summary>
    public required int? BlockSize { get; init; }

    /// <summary>Functions by name (<see cref="NamedFunctions"/>), joined by <c>+</c>; null for none.</summary>
    public string? Score { get; init; }

    /// <summary>What to compute.</summary>
    /// <exception cref="UsageException">There is no function of that name.</exception>
    public AttentionOptions Options => NamedFunctions.Add(new() { Mask = Mask }, Score, this);

    /// <summary>What a plan is made from.</summary>
    public CallSizes Sizes
    {
        get
        {
            var sizes = new CallSizes(QueryType, KeyValueType, new AttentionShape(Batch, QueryLength, KeyLength, QueryHeads, KeyValueHeads, KeyDim, ValueDim));
            return BlockSize is int blockSize ? sizes with { QueryLengths = OfEach(QueryLength), KeyLengths = OfEach(KeyLength), BlockSize = blockSize } : sizes;
        }
    }

    /// <summary>A call of this shape on random numbers.</summary>
    /// <param name="run">How it will run: with row invariance, or without.</param>
    /// <exception cref="UsageException">It is larger than the tensors here may be.</exception>
    public CallInputs CreateCall(RunOptions run)
    {
        var recipe = new CallRecipe
        {
            QueryLengths = OfEach(QueryLength),
            KeyLengths = OfEach(KeyLength),
            Heads = QueryHeads,
            KeyValueHeads = KeyValueHeads,
            KeyDim = KeyDim,
            ValueDim = ValueDim,
            QueryType = QueryType,
            KeyValueType = KeyValueType,
            HasSpares = false,
            Options = Options,
        };
        return (BlockSize is int blockSize ? recipe with { Layout = SequenceLayout.Paged, BlockSize = blockSize } : recipe).CreateCall(run);
    }

    private int[] OfEach(int length) => [.. Enumerable.Repeat(length, Batch)];
}
