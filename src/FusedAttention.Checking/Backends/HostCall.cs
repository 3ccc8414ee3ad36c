using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Backends;

/// <summary>A call on the arrays that the inputs are in.</summary>
public sealed class HostCall<TQuery, TKeyValue> : PreparedCall
    where TQuery : unmanaged
    where TKeyValue : unmanaged
{
    private readonly ICallTarget _target;
    private readonly byte[] _output;
    private readonly byte[] _logSumExp;

    /// <param name="call">The inputs.</param>
    /// <param name="target">What takes the call.</param>
    public HostCall(CallInputs call, ICallTarget target)
        : base(call)
    {
        _target = target;
        _output = new byte[OutputBytes];
        _logSumExp = new byte[LogSumExpBytes];
        Output = AsOutput(_output);
        LogSumExp = AsLogSumExp(_logSumExp);
    }

    public override LoadedTensor Output { get; }

    public override LoadedTensor LogSumExp { get; }

    public override void Poison()
    {
        _output.AsSpan().Fill(0xFF);
        _logSumExp.AsSpan().Fill(0xFF);
    }

    public override void Invoke(AttentionOptions options)
    {
        ReadOnlyTensorSpan<TQuery> query = Call.Query.AsTensorSpan<TQuery>();
        ReadOnlyTensorSpan<TKeyValue> key = Call.Key.AsTensorSpan<TKeyValue>();
        ReadOnlyTensorSpan<TKeyValue> value = Call.Value.AsTensorSpan<TKeyValue>();
        var output = new TensorSpan<TQuery>(MemoryMarshal.Cast<byte, TQuery>(_output.AsSpan()), LoadedTensor.Lengths(Output.Shape.AsSpan()));
        var operands = new AttentionOperands
        {
            LogSumExp = new TensorSpan<float>(MemoryMarshal.Cast<byte, float>(_logSumExp.AsSpan()), LoadedTensor.Lengths(LogSumExp.Shape.AsSpan())),
        };
        if (Call.Mask is LoadedTensor mask) operands.BooleanMask = mask.AsTensorSpan<bool>();
        if (Call.Bias is LoadedTensor bias) operands.Bias = Bias(bias);
        if (Call.KeyLengths is int[] keyLengths) operands.KeyLengths = keyLengths;

        switch (Call.Layout)
        {
            case SequenceLayout.Dense:
                _target.Dense(query, key, value, output, options, operands);
                break;
            case SequenceLayout.VariableLength:
                _target.Packed(query, key, value, output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, options, operands);
                break;
            default:
                _target.Paged(query, key, value, output, Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence, options, operands);
                break;
        }
    }

    public override TimeSpan Time(AttentionOptions options, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++) Invoke(options);
        return Stopwatch.GetElapsedTime(start);
    }

    private static AttentionBias Bias(LoadedTensor bias) => bias.ElementType switch
    {
        TensorElementType.Float32 => bias.AsTensorSpan<float>(),
        TensorElementType.Float16 => bias.AsTensorSpan<Half>(),
        TensorElementType.BFloat16 => bias.AsTensorSpan<BFloat16>(),
        _ => throw WrongBias(bias),
    };
}

/// <summary>Calls on arrays, of whatever element types their inputs have.</summary>
public static class HostCall
{
    /// <exception cref="UsageException">The library does not compute on these element types.</exception>
    public static PreparedCall Create(CallInputs call, ICallTarget target) => ElementTypeDispatch.Run(call.Query.ElementType, call.Key.ElementType, new Creating(call, target));

    private sealed class Creating(CallInputs call, ICallTarget target) : ITypedWork<PreparedCall>
    {
        public PreparedCall Run<TQuery, TKeyValue>()
            where TQuery : unmanaged
            where TKeyValue : unmanaged
            => new HostCall<TQuery, TKeyValue>(call, target);
    }
}
