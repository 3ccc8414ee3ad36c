using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Calls;

/// <summary>A call through the library's public API with its output memory, ready to be made any number of times.</summary>
internal abstract class PreparedCall
{
    private readonly byte[] _output;
    private readonly byte[] _logSumExp;

    protected PreparedCall(AttentionCall call)
    {
        Call = call;
        _output = new byte[ByteCount(call.OutputShape, call.Query.ElementType)];
        _logSumExp = new byte[ByteCount(call.LogSumExpShape, TensorElementType.Float32)];
        Output = new("o", call.Query.ElementType, [.. call.OutputShape], _output);
        LogSumExp = new("lse", TensorElementType.Float32, [.. call.LogSumExpShape], _logSumExp);
    }

    public AttentionCall Call { get; }

    public LoadedTensor Output { get; }

    public LoadedTensor LogSumExp { get; }

    public static PreparedCall Create(AttentionCall call) => ElementTypeDispatch.Run(call.Query.ElementType, call.Key.ElementType, new Factory(call));

    /// <summary>Fills both outputs with NaN (all bits set, in every type), so that an element nobody writes cannot pass for a result.</summary>
    public void Poison()
    {
        _output.AsSpan().Fill(0xFF);
        _logSumExp.AsSpan().Fill(0xFF);
    }

    /// <summary>Makes the call.</summary>
    public abstract void Invoke(AttentionOptions options);

    /// <summary>What the call runs.</summary>
    public abstract AttentionExplanation Explain(AttentionOptions options);

    private static long ByteCount(long[] shape, TensorElementType type)
    {
        long bytes = (LoadedTensor.TryCountElements(shape) ?? long.MaxValue / 8) * type.SizeInBytes();
        return bytes <= TensorFile.MaxTensorBytes ? bytes : throw new UsageException($"An output of {LoadedTensor.Describe(shape)} passes {TensorFile.MaxTensorBytes} bytes.");
    }

    private sealed class Factory(AttentionCall call) : ITypedWork<PreparedCall>
    {
        public PreparedCall Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => new Typed<TQuery, TKeyValue>(call);
    }

    private sealed class Typed<TQuery, TKeyValue>(AttentionCall call) : PreparedCall(call)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        public override void Invoke(AttentionOptions options)
        {
            ReadOnlyTensorSpan<TQuery> query = Tensor<TQuery>(Call.Query);
            ReadOnlyTensorSpan<TKeyValue> key = Tensor<TKeyValue>(Call.Key);
            ReadOnlyTensorSpan<TKeyValue> value = Tensor<TKeyValue>(Call.Value);
            var output = new TensorSpan<TQuery>(MemoryMarshal.Cast<byte, TQuery>(_output.AsSpan()), Lengths(Output));
            var operands = new AttentionOperands
            {
                LogSumExp = new TensorSpan<float>(MemoryMarshal.Cast<byte, float>(_logSumExp.AsSpan()), Lengths(LogSumExp)),
            };
            if (Call.Mask is LoadedTensor mask) operands.BooleanMask = Tensor<bool>(mask);
            if (Call.Bias is LoadedTensor bias) operands.Bias = Bias(bias);
            if (Call.KeyLengths is int[] keyLengths) operands.KeyLengths = keyLengths;

            switch (Call.Layout)
            {
                case SequenceLayout.Dense:
                    Attention.Forward(query, key, value, output, options, operands);
                    break;
                case SequenceLayout.VariableLength:
                    Attention.ForwardVariableLength(query, key, value, output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, options, operands);
                    break;
                default:
                    var sequences = new PagedSequences(Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence);
                    Attention.ForwardPaged(query, key, value, output, sequences, options, operands);
                    break;
            }
        }

        public override AttentionExplanation Explain(AttentionOptions options)
        {
            var shape = new AttentionShape(Call.Batch, Call.QueryLength, Call.KeyLength, Call.Heads, Call.KeyValueHeads, Call.KeyDim, Call.ValueDim);
            if (Call.Layout == SequenceLayout.Dense && Call.KeyLengths is null) return Attention.Explain<TQuery, TKeyValue>(shape, options);

            // With key lengths of its own, a dense call does the work of a packed one.
            int[] queries = new int[Call.SequenceCount];
            int[] keys = new int[Call.SequenceCount];
            for (int s = 0; s < queries.Length; s++) (_, _, queries[s], keys[s]) = Call.Sequence(s);
            return Attention.Explain<TQuery, TKeyValue>(shape, queries, keys, Call.Layout == SequenceLayout.Paged ? Call.BlockSize : null, options);
        }

        private static AttentionBias Bias(LoadedTensor bias) => bias.ElementType switch
        {
            TensorElementType.Float32 => Tensor<float>(bias),
            TensorElementType.Float16 => Tensor<Half>(bias),
            TensorElementType.BFloat16 => Tensor<BFloat16>(bias),
            _ => throw new UsageException($"The bias {bias} must be of F32, F16 or BF16."),
        };

        private static ReadOnlyTensorSpan<T> Tensor<T>(LoadedTensor tensor)
            where T : unmanaged
            => new(tensor.Elements<T>(), Lengths(tensor));

        private static nint[] Lengths(LoadedTensor tensor)
        {
            nint[] lengths = new nint[tensor.Rank];
            for (int i = 0; i < lengths.Length; i++) lengths[i] = (nint)tensor.Shape[i];
            return lengths;
        }
    }
}
