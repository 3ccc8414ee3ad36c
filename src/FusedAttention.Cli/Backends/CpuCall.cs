using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Backends;

/// <summary>A call of <see cref="Attention"/> on the arrays that were loaded.</summary>
internal sealed class CpuCall<TQuery, TKeyValue> : PreparedCall
    where TQuery : unmanaged
    where TKeyValue : unmanaged
{
    private readonly byte[] _output;
    private readonly byte[] _logSumExp;

    public CpuCall(Backend backend, AttentionCall call)
        : base(backend, call)
    {
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
        ReadOnlyTensorSpan<TQuery> query = Tensor<TQuery>(Call.Query);
        ReadOnlyTensorSpan<TKeyValue> key = Tensor<TKeyValue>(Call.Key);
        ReadOnlyTensorSpan<TKeyValue> value = Tensor<TKeyValue>(Call.Value);
        var output = new TensorSpan<TQuery>(MemoryMarshal.Cast<byte, TQuery>(_output.AsSpan()), Lengths(Output.Shape.AsSpan()));
        var operands = new AttentionOperands
        {
            LogSumExp = new TensorSpan<float>(MemoryMarshal.Cast<byte, float>(_logSumExp.AsSpan()), Lengths(LogSumExp.Shape.AsSpan())),
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

    public override TimeSpan Time(AttentionOptions options, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++) Invoke(options);
        return Stopwatch.GetElapsedTime(start);
    }

    private static AttentionBias Bias(LoadedTensor bias) => bias.ElementType switch
    {
        TensorElementType.Float32 => Tensor<float>(bias),
        TensorElementType.Float16 => Tensor<Half>(bias),
        TensorElementType.BFloat16 => Tensor<BFloat16>(bias),
        _ => throw WrongBias(bias),
    };

    private static ReadOnlyTensorSpan<T> Tensor<T>(LoadedTensor tensor)
        where T : unmanaged
        => new(tensor.Elements<T>(), Lengths(tensor.Shape.AsSpan()));
}
