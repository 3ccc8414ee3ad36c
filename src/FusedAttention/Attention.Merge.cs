using System.Numerics.Tensors;
using FusedAttention.Cpu;
using FusedAttention.Problems;

namespace FusedAttention;

public static unsafe partial class Attention
{
    /// <summary>
    /// Combines attention over parts of a context (a shared prefix and the rest, pieces held by several machines) into attention over the whole,
    /// by the parts' log-sum-exps: <c>o = sum_i exp(lse_i - lse) * o_i</c> with <c>lse = log(sum_i exp(lse_i))</c>.
    /// </summary>
    /// <remarks>
    /// A sink belongs to the context once: compute every part without sinks and give them here, or let exactly one part have them.
    /// A part whose log-sum-exp is negative infinity saw no key and has no weight, whatever its output holds. Parts are combined in order, so the result is the same on every run.
    /// A row that no part has a key for gives zeros and negative infinity, or the sink's logit. A log-sum-exp of NaN or positive infinity makes its row NaN.
    /// </remarks>
    /// <typeparam name="TPartial">Element type of the parts: <see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <typeparam name="TOutput">Element type of the result: any of these, whatever the parts are.</typeparam>
    /// <param name="partialOutputs"><c>[parts, batch, queries, heads, valueDim]</c>, or without the batch dimension; 1 part or more; any strides with a contiguous last dimension.</param>
    /// <param name="partialLogSumExps"><c>[parts, batch, heads, queries]</c>, or without the batch dimension; natural logarithm; any strides.</param>
    /// <param name="output"><c>[batch, queries, heads, valueDim]</c>, or without the batch dimension; contiguous last dimension; must not overlap an input or itself.</param>
    /// <param name="logSumExp">Receives the combined log-sum-exp, the sink included, <c>[batch, heads, queries]</c>, or without the batch dimension; default: not wanted. Must not overlap anything.</param>
    /// <param name="sinkLogits">One sink logit per head to add in this step, finite or negative infinity; empty: none.</param>
    /// <exception cref="ArgumentException">A shape, stride, type or overlap is not as described; the message has the numbers.</exception>
    public static void Merge<TPartial, TOutput>(
        scoped in ReadOnlyTensorSpan<TPartial> partialOutputs,
        scoped in ReadOnlyTensorSpan<float> partialLogSumExps,
        scoped in TensorSpan<TOutput> output,
        scoped in TensorSpan<float> logSumExp = default,
        ReadOnlySpan<float> sinkLogits = default)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        ArgumentChecks.ElementType<TPartial>(nameof(partialOutputs));
        ArgumentChecks.ElementType<TOutput>(nameof(output));
        var partials = TensorLayout.Of(partialOutputs);
        var partialLses = TensorLayout.Of(partialLogSumExps);
        var result = TensorLayout.Of(output);
        var lse = TensorLayout.Of(logSumExp);
        var sinks = TensorLayout.Of([sinkLogits.Length], [1]);
        MergeShape shape = CheckMergeShapes(partials, partialLses, result, lse, sinkLogits);

        fixed (TPartial* partialsFirst = partialOutputs)
        fixed (float* partialLsesFirst = partialLogSumExps)
        fixed (TOutput* resultFirst = output)
        fixed (float* lseFirst = logSumExp)
        fixed (float* sinksFirst = sinkLogits)
        {
            NotOverlapping(resultFirst, result, nameof(output), partialsFirst, partials, nameof(partialOutputs));
            NotOverlapping(resultFirst, result, nameof(output), partialLsesFirst, partialLses, nameof(partialLogSumExps));
            NotOverlapping(resultFirst, result, nameof(output), sinksFirst, sinks, nameof(sinkLogits));
            NotOverlapping(resultFirst, result, nameof(output), lseFirst, lse, nameof(logSumExp));
            NotOverlapping(lseFirst, lse, nameof(logSumExp), partialsFirst, partials, nameof(partialOutputs));
            NotOverlapping(lseFirst, lse, nameof(logSumExp), partialLsesFirst, partialLses, nameof(partialLogSumExps));
            NotOverlapping(lseFirst, lse, nameof(logSumExp), sinksFirst, sinks, nameof(sinkLogits));
            MergeKernel.Run(shape, partialsFirst, partialLsesFirst, sinksFirst, resultFirst, lseFirst);
        }
    }

    /// <summary>Combines parts held in tensors.</summary>
    /// <inheritdoc cref="Merge{TPartial, TOutput}(in ReadOnlyTensorSpan{TPartial}, in ReadOnlyTensorSpan{float}, in TensorSpan{TOutput}, in TensorSpan{float}, ReadOnlySpan{float})"/>
    public static void Merge<TPartial, TOutput>(
        Tensor<TPartial> partialOutputs,
        Tensor<float> partialLogSumExps,
        Tensor<TOutput> output,
        Tensor<float>? logSumExp = null,
        ReadOnlySpan<float> sinkLogits = default)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        ArgumentNullException.ThrowIfNull(partialOutputs);
        ArgumentNullException.ThrowIfNull(partialLogSumExps);
        ArgumentNullException.ThrowIfNull(output);
        Merge<TPartial, TOutput>(
            partialOutputs.AsReadOnlyTensorSpan(),
            partialLogSumExps.AsReadOnlyTensorSpan(),
            output.AsTensorSpan(),
            logSumExp is null ? default : logSumExp.AsTensorSpan(),
            sinkLogits);
    }

    private static MergeShape CheckMergeShapes(in TensorLayout partialOutputs, in TensorLayout partialLogSumExps, in TensorLayout output, in TensorLayout logSumExp, ReadOnlySpan<float> sinkLogits)
    {
        if (partialOutputs.Rank is not (4 or 5))
            throw new ArgumentException($"partialOutputs is {partialOutputs}, but must be [parts, batch, queries, heads, valueDim] or [parts, queries, heads, valueDim].", nameof(partialOutputs));
        bool batched = partialOutputs.Rank == 5;
        ReadOnlySpan<long> lengths = partialOutputs.Lengths;
        long parts = lengths[0], batch = batched ? lengths[1] : 1, queries = lengths[^3], heads = lengths[^2], dim = lengths[^1];
        if (parts < 1) throw new ArgumentException($"partialOutputs is {partialOutputs}: there must be 1 part or more.", nameof(partialOutputs));
        CheckMergeShape(partialLogSumExps, nameof(partialLogSumExps), partialOutputs, batched ? [parts, batch, heads, queries] : [parts, heads, queries]);
        CheckMergeShape(output, nameof(output), partialOutputs, batched ? [batch, queries, heads, dim] : [queries, heads, dim]);
        if (!logSumExp.IsAbsent) CheckMergeShape(logSumExp, nameof(logSumExp), partialOutputs, batched ? [batch, heads, queries] : [heads, queries]);

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

    private static void CheckMergeShape(in TensorLayout layout, string name, in TensorLayout partials, ReadOnlySpan<long> expected)
    {
        if (layout.Rank <= TensorLayout.MaxRank && layout.Lengths.SequenceEqual(expected)) return;
        throw new ArgumentException($"{name} is {layout}, but must be [{string.Join(", ", expected.ToArray())}] beside partialOutputs {partials}.", name);
    }

    /// <summary>With rank 5, tensors are not told apart if they interleave: the shared check knows interleaved tokens, and here the dimensions are others.</summary>
    private static void NotOverlapping<TWritten, TOther>(
        TWritten* written, in TensorLayout writtenLayout, string writtenName, TOther* other, in TensorLayout otherLayout, string otherName)
        where TWritten : unmanaged
        where TOther : unmanaged
        => ArgumentChecks.NotOverlapping(
            written, writtenLayout.PaddedTo(TensorLayout.MaxRank), sizeof(TWritten), writtenName, writtenName, other, otherLayout.PaddedTo(TensorLayout.MaxRank), sizeof(TOther), otherName);
}
