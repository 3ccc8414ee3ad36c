using System.Numerics.Tensors;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Conformance;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Testing;

/// <summary>A reference case through whatever takes calls.</summary>
internal static class ReferenceCall
{
    public static CaseOutcome Run(ReferenceCase reference, RunOptions options, ICallTarget target) => ReferenceRunner.Run(
        reference, options, call => ElementTypeDispatch.Run(call.Query.ElementType, call.Key.ElementType, new Preparing(call, target)));

    private sealed class Preparing(CallInputs call, ICallTarget target) : ITypedWork<PreparedCall>
    {
        public PreparedCall Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => new TargetCall<TQuery, TKeyValue>(call, target);
    }

    private sealed class TargetCall<TQuery, TKeyValue>(CallInputs call, ICallTarget target) : HostCall<TQuery, TKeyValue>(call)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        protected override void Dense(
            in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
            AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
            => target.Dense(query, key, value, output, options, operands);

        protected override void Packed(
            in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
            AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
            => target.Packed(query, key, value, output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, options, operands);

        protected override void Paged(
            in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
            AttentionOptions options, scoped in AttentionOperands operands, RunOptions run)
            => target.Paged(query, keyCache, valueCache, output, Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence, options, operands);
    }
}
