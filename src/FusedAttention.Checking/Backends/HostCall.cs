using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Backends;

/// <summary>A call on the arrays that the inputs are in; which door takes it, the type that derives from this one says.</summary>
public abstract class HostCall<TQuery, TKeyValue> : PreparedCall
    where TQuery : unmanaged
    where TKeyValue : unmanaged
{
    private readonly byte[] _output;
    private readonly byte[] _logSumExp;

    protected HostCall(CallInputs call)
        : base(call)
    {
        _output = new byte[OutputBytes];
        _logSumExp = new byte[LogSumExpBytes];
        Output = AsOutput(_output);
        LogSumExp = AsLogSumExp(_logSumExp);
    }

    public sealed override LoadedTensor Output { get; }

    public sealed override LoadedTensor LogSumExp { get; }

    public sealed override void Poison()
    {
        _output.AsSpan().Fill(0xFF);
        _logSumExp.AsSpan().Fill(0xFF);
    }

    public sealed override void Invoke(AttentionOptions options, RunOptions run)
    {
        ReadOnlyTensorSpan<TQuery> query = Call.Query.AsTensorSpan<TQuery>();
        ReadOnlyTensorSpan<TKeyValue> key = Call.Key.AsTensorSpan<TKeyValue>();
        ReadOnlyTensorSpan<TKeyValue> value = Call.Value.AsTensorSpan<TKeyValue>();
        var output = new TensorSpan<TQuery>(MemoryMarshal.Cast<byte, TQuery>(_output.AsSpan()), LoadedTensor.Lengths(Output.Shape.AsSpan()));
        var operands = default(AttentionOperands);
        if (!run.WithoutLogSumExp) operands.LogSumExp = new TensorSpan<float>(MemoryMarshal.Cast<byte, float>(_logSumExp.AsSpan()), LoadedTensor.Lengths(LogSumExp.Shape.AsSpan()));
        if (Call.Mask is LoadedTensor mask) operands.BooleanMask = mask.AsTensorSpan<bool>();
        if (Call.Bias is LoadedTensor bias) operands.Bias = Bias(bias);
        if (Call.KeyScale is LoadedTensor keyScale) operands.KeyScale = keyScale.AsTensorSpan<float>();
        if (Call.ValueScale is LoadedTensor valueScale) operands.ValueScale = valueScale.AsTensorSpan<float>();
        if (Call.KeyLengths is int[] keyLengths) operands.KeyLengths = keyLengths;

        switch (Call.Layout)
        {
            case SequenceLayout.Dense:
                Dense(query, key, value, output, options, operands, run);
                break;
            case SequenceLayout.VariableLength:
                Packed(query, key, value, output, options, operands, run);
                break;
            default:
                Paged(query, key, value, output, options, operands, run);
                break;
        }
    }

    public sealed override TimeSpan Time(AttentionOptions options, RunOptions run, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++) Invoke(options, run);
        return Stopwatch.GetElapsedTime(start);
    }

    protected abstract void Dense(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands, RunOptions run);

    /// <summary>The sequences' lengths are those of <see cref="PreparedCall.Call"/>.</summary>
    protected abstract void Packed(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> key, in ReadOnlyTensorSpan<TKeyValue> value, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands, RunOptions run);

    /// <summary>The sequences' lengths and block tables are those of <see cref="PreparedCall.Call"/>.</summary>
    protected abstract void Paged(
        in ReadOnlyTensorSpan<TQuery> query, in ReadOnlyTensorSpan<TKeyValue> keyCache, in ReadOnlyTensorSpan<TKeyValue> valueCache, in TensorSpan<TQuery> output,
        AttentionOptions options, scoped in AttentionOperands operands, RunOptions run);

    private static AttentionBias Bias(LoadedTensor bias) => bias.ElementType switch
    {
        TensorElementType.Float32 => bias.AsTensorSpan<float>(),
        TensorElementType.Float16 => bias.AsTensorSpan<Half>(),
        TensorElementType.BFloat16 => bias.AsTensorSpan<BFloat16>(),
        _ => throw WrongBias(bias),
    };
}
