using System.Numerics.Tensors;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Cpu;

/// <summary>A call of <see cref="Attention"/>.</summary>
internal sealed class PreparedCpuCall<TQuery, TKeyValue>(CallInputs call) : HostCall<TQuery, TKeyValue>(call)
    where TQuery : unmanaged
    where TKeyValue : unmanaged
{
    protected override void Dense(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
        => Attention.Forward(query, key, value, output, options, operands, run.Execution, run.CancellationToken);

    protected override void Packed(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
        => Attention.ForwardVariableLength(query, key, value, output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, options, operands, run.Execution, run.CancellationToken);

    protected override void Paged(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
        => Attention.ForwardPaged(
            query, keyCache, valueCache, output, new PagedSequences(Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence), options, operands, run.Execution, run.CancellationToken);
}
