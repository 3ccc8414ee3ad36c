using System.Numerics.Tensors;

namespace FusedAttention.Checking.Backends;

/// <summary>What takes calls on arrays of this process: the library's own door, or something that stands in for it.</summary>
public interface ICallTarget
{
    /// <summary>A dense call: <see cref="Attention.Forward{TQuery, TKeyValue}(in ReadOnlyTensorSpan{TQuery}, in ReadOnlyTensorSpan{TKeyValue}, in ReadOnlyTensorSpan{TKeyValue}, in TensorSpan{TQuery}, AttentionOptions, in AttentionOperands)"/>.</summary>
    void Dense<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    /// <summary>A call on packed sequences.</summary>
    void Packed<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] cumulativeKeys, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;

    /// <summary>A call on sequences in a paged cache.</summary>
    void Paged<TQuery, TKeyValue>(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        int[] cumulativeQueries, int[] contextLengths, int[] blockTables, int maxBlocksPerSequence, AttentionOptions options, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged;
}
