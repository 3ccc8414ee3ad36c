using System.Numerics.Tensors;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Metal.Tests;

/// <summary>A reference case through a <see cref="MetalCaller"/>.</summary>
internal static class MetalReference
{
    public static CaseOutcome Run(ReferenceCase reference, MetalCaller caller, bool rowInvariant = false) => ReferenceRunner.Run(
        reference, new RunOptions { RowInvariant = rowInvariant }, call => ElementTypeDispatch.Run(call.Query.ElementType, call.Key.ElementType, new Preparing(call, caller)));

    private sealed class Preparing(CallInputs call, MetalCaller caller) : ITypedWork<PreparedCall>
    {
        public PreparedCall Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => new EmulatedCall<TQuery, TKeyValue>(call, caller);
    }

    private sealed class EmulatedCall<TQuery, TKeyValue>(CallInputs call, MetalCaller caller) : HostCall<TQuery, TKeyValue>(call)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        protected override void Dense(
            in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
            AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
            => caller.Dense(query, key, value, output, options, operands);

        protected override void Packed(
            in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
            AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
            => caller.Packed(query, key, value, output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, options, operands);

        protected override void Paged(
            in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
            AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
            => caller.Paged(query, keyCache, valueCache, output, Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence, options, operands);
    }
}
