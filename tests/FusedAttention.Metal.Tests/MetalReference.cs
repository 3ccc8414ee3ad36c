using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Conformance;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Metal.Tests;

/// <summary>A reference case through a <see cref="MetalCaller"/>.</summary>
internal static class MetalReference
{
    public static CaseOutcome Run(ReferenceCase reference, MetalCaller caller, bool rowInvariant = false)
    {
        AttentionCall call = ReferenceRunner.Call(reference, new AttentionOptions { RowInvariant = rowInvariant });
        var run = new Invocation(call, caller);
        (double[] output, double[] logSumExp) = Invoke(run, call.Options);
        double[]? ofKeys = reference.ExpectedLogSumExpOfKeys is null ? null : Invoke(run, call.Options with { SinkLogits = [] }).LogSumExp;
        return ReferenceRunner.Compare(reference, call, output, logSumExp, ofKeys);
    }

    private static (double[] Output, double[] LogSumExp) Invoke(Invocation run, AttentionOptions options)
    {
        run.Options = options;
        return ElementTypeDispatch.Run(run.Call.Query.ElementType, run.Call.Key.ElementType, run);
    }

    private sealed class Invocation(AttentionCall call, MetalCaller caller) : ITypedWork<(double[] Output, double[] LogSumExp)>
    {
        public AttentionCall Call { get; } = call;

        public AttentionOptions Options { get; set; } = AttentionOptions.Default;

        public (double[] Output, double[] LogSumExp) Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
        {
            byte[] outputBytes = Poisoned(Call.OutputShape, Call.Query.ElementType);
            byte[] lseBytes = Poisoned(Call.LogSumExpShape, TensorElementType.Float32);
            var output = new TensorSpan<TQuery>(MemoryMarshal.Cast<byte, TQuery>(outputBytes.AsSpan()), Lengths(Call.OutputShape));
            var operands = new AttentionOperands { LogSumExp = new TensorSpan<float>(MemoryMarshal.Cast<byte, float>(lseBytes.AsSpan()), Lengths(Call.LogSumExpShape)) };
            if (Call.Mask is LoadedTensor mask) operands.BooleanMask = Tensor<bool>(mask);
            if (Call.Bias is LoadedTensor bias) operands.Bias = Bias(bias);
            if (Call.KeyLengths is int[] keyLengths) operands.KeyLengths = keyLengths;
            ReadOnlyTensorSpan<TQuery> query = Tensor<TQuery>(Call.Query);
            ReadOnlyTensorSpan<TKeyValue> key = Tensor<TKeyValue>(Call.Key), value = Tensor<TKeyValue>(Call.Value);
            switch (Call.Layout)
            {
                case SequenceLayout.Dense:
                    caller.Dense(query, key, value, output, Options, operands);
                    break;
                case SequenceLayout.VariableLength:
                    caller.Packed(query, key, value, output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, Options, operands);
                    break;
                default:
                    caller.Paged(query, key, value, output, Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence, Options, operands);
                    break;
            }

            return (
                new LoadedTensor("o", Call.Query.ElementType, [.. Call.OutputShape], outputBytes).ToDoubles(),
                new LoadedTensor("lse", TensorElementType.Float32, [.. Call.LogSumExpShape], lseBytes).ToDoubles());
        }

        private static byte[] Poisoned(long[] shape, TensorElementType type)
        {
            byte[] bytes = new byte[shape.Aggregate(1L, (product, length) => product * length) * type.SizeInBytes()];
            bytes.AsSpan().Fill(0xFF);
            return bytes;
        }

        private static AttentionBias Bias(LoadedTensor bias) => bias.ElementType switch
        {
            TensorElementType.Float16 => Tensor<Half>(bias),
            TensorElementType.BFloat16 => Tensor<BFloat16>(bias),
            _ => Tensor<float>(bias),
        };

        private static ReadOnlyTensorSpan<T> Tensor<T>(LoadedTensor tensor)
            where T : unmanaged
            => new(tensor.Elements<T>(), Lengths([.. tensor.Shape]));

        private static nint[] Lengths(long[] shape) => [.. shape.Select(length => (nint)length)];
    }
}
