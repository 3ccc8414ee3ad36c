using System.Numerics.Tensors;
using FusedAttention.Checking.Backends;

namespace FusedAttention.Checking.Cpu;

/// <summary>The library's own door: <see cref="Attention"/>.</summary>
internal sealed class LibraryCalls : ICallTarget
{
    public void Dense<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => Attention.Forward(query, key, value, output, options, operands);

    public void Packed<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] cumulativeKeys, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => Attention.ForwardVariableLength(query, key, value, output, cumulativeQueries, cumulativeKeys, options, operands);

    public void Paged<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => Attention.ForwardPaged(
            query, keyCache, valueCache, output, new PagedSequences(cumulativeQueries, contextLengths, blockTables, maxBlocksPerSequence), options, operands);
}
