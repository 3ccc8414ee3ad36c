using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>Sizes and element strides of a merge; a row is one (batch, query, head). Without a batch dimension <see cref="Batch"/> is 1.</summary>
internal readonly unsafe record struct MergeShape
{
    public long Parts { get; init; }

    public long Batch { get; init; }

    public long Queries { get; init; }

    public long Heads { get; init; }

    public long Dim { get; init; }

    public Strides Partial { get; init; }

    public Strides PartialLogSumExp { get; init; }

    public Strides Output { get; init; }

    public Strides LogSumExp { get; init; }

    public readonly record struct Strides(long Part, long Batch, long Query, long Head)
    {
        public long Offset(long batch, long query, long head) => (batch * Batch) + (query * Query) + (head * Head);
    }

    /// <summary>Checks what a merge was given; names and messages are those of its public parameters.</summary>
    public static MergeShape Of(in TensorLayout partialOutputs, in TensorLayout partialLogSumExps, in TensorLayout output, in TensorLayout logSumExp, ReadOnlySpan<float> sinkLogits)
    {
        if (partialOutputs.Rank is not (4 or 5))
            throw new ArgumentException($"partialOutputs is {partialOutputs}, but must be [parts, batch, queries, heads, valueDim] or [parts, queries, heads, valueDim].", nameof(partialOutputs));
        bool batched = partialOutputs.Rank == 5;
        ReadOnlySpan<long> lengths = partialOutputs.Lengths;
        long parts = lengths[0], batch = batched ? lengths[1] : 1, queries = lengths[^3], heads = lengths[^2], dim = lengths[^1];
        if (parts < 1) throw new ArgumentException($"partialOutputs is {partialOutputs}: there must be 1 part or more.", nameof(partialOutputs));
        CheckShape(partialLogSumExps, nameof(partialLogSumExps), partialOutputs, batched ? [parts, batch, heads, queries] : [parts, heads, queries]);
        CheckShape(output, nameof(output), partialOutputs, batched ? [batch, queries, heads, dim] : [queries, heads, dim]);
        if (!logSumExp.IsAbsent) CheckShape(logSumExp, nameof(logSumExp), partialOutputs, batched ? [batch, heads, queries] : [heads, queries]);

        ArgumentChecks.ContiguousLast(partialOutputs, nameof(partialOutputs));
        ArgumentChecks.ContiguousLast(output, nameof(output));
        ArgumentChecks.NotSelfOverlapping(output, nameof(output), nameof(output));
        ArgumentChecks.NotSelfOverlapping(logSumExp, nameof(logSumExp), nameof(logSumExp));

        if (!sinkLogits.IsEmpty && sinkLogits.Length != heads)
            throw new ArgumentException($"sinkLogits has {sinkLogits.Length} logits, but must have one for each of the {heads} heads of partialOutputs {partialOutputs}, or none.", nameof(sinkLogits));
        for (int head = 0; head < sinkLogits.Length; head++)
        {
            if (!(sinkLogits[head] < float.PositiveInfinity))
                throw new ArgumentException($"sinkLogits[{head}] is {sinkLogits[head]}, but must be finite or negative infinity.", nameof(sinkLogits));
        }

        return new()
        {
            Parts = parts,
            Batch = batch,
            Queries = queries,
            Heads = heads,
            Dim = dim,
            Partial = new(partialOutputs.Strides[0], batched ? partialOutputs.Strides[1] : 0, partialOutputs.Strides[^3], partialOutputs.Strides[^2]),
            PartialLogSumExp = new(partialLogSumExps.Strides[0], batched ? partialLogSumExps.Strides[1] : 0, partialLogSumExps.Strides[^1], partialLogSumExps.Strides[^2]),
            Output = new(0, batched ? output.Strides[0] : 0, output.Strides[^3], output.Strides[^2]),
            LogSumExp = logSumExp.IsAbsent ? default : new(0, batched ? logSumExp.Strides[0] : 0, logSumExp.Strides[^1], logSumExp.Strides[^2]),
        };
    }

    private static void CheckShape(in TensorLayout layout, string name, in TensorLayout partials, ReadOnlySpan<long> expected)
    {
        if (layout.Rank <= TensorLayout.MaxRank && layout.Lengths.SequenceEqual(expected)) return;
        throw new ArgumentException($"{name} is {layout}, but must be [{string.Join(", ", expected.ToArray())}] beside partialOutputs {partials}.", name);
    }

    /// <summary>No output may share memory with anything else of the call; what is absent is all zeros.</summary>
    public static void CheckOverlaps(in TensorArgument partials, in TensorArgument partialLogSumExps, in TensorArgument sinkLogits, in TensorArgument output, in TensorArgument logSumExp)
    {
        NotOverlapping(output, partials);
        NotOverlapping(output, partialLogSumExps);
        NotOverlapping(output, sinkLogits);
        NotOverlapping(output, logSumExp);
        NotOverlapping(logSumExp, partials);
        NotOverlapping(logSumExp, partialLogSumExps);
        NotOverlapping(logSumExp, sinkLogits);
    }

    /// <summary>With rank 5, tensors are not told apart if they interleave: the shared check knows interleaved tokens, and here the dimensions are others.</summary>
    private static void NotOverlapping(in TensorArgument written, in TensorArgument other) => ArgumentChecks.NotOverlapping(
        written with { Layout = written.Layout.PaddedTo(TensorLayout.MaxRank) }, written.Name, other with { Layout = other.Layout.PaddedTo(TensorLayout.MaxRank) });
}
