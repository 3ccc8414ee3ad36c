using System.Numerics.Tensors;

namespace FusedAttention.Testing;

/// <summary>What takes the calls that tests make, where it is not the library's own door.</summary>
internal interface ICallTarget
{
    void Dense<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    void Packed<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] cumulativeKeys, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    void Paged<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;
}
