using System.Diagnostics;
using System.Runtime.InteropServices;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Backends.Metal;

/// <summary>A call of <see cref="MetalAttention"/> on copies of the loaded tensors in memory of the device.</summary>
internal sealed class PreparedMetalCall<TQuery, TKeyValue> : PreparedCall
    where TQuery : unmanaged
    where TKeyValue : unmanaged
{
    private readonly MetalDevice _device;
    private readonly List<MetalTensor> _all = [];
    private readonly MetalTensor<TQuery> _query;
    private readonly MetalTensor<TKeyValue> _key;
    private readonly MetalTensor<TKeyValue> _value;
    private readonly MetalTensor<bool>? _mask;
    private readonly MetalTensor? _bias;
    private readonly MetalTensor<float>? _keyScale;
    private readonly MetalTensor<float>? _valueScale;
    private readonly MetalTensor<TQuery> _output;
    private readonly MetalTensor<float> _logSumExp;

    public PreparedMetalCall(MetalDevice device, CallInputs call)
        : base(call)
    {
        _device = device;
        try
        {
            _query = Copy<TQuery>(call.Query);
            _key = Copy<TKeyValue>(call.Key);
            _value = Copy<TKeyValue>(call.Value);
            _mask = call.Mask is LoadedTensor mask ? Copy<bool>(mask) : null;
            _bias = call.Bias is LoadedTensor bias ? CopyBias(bias) : null;
            _keyScale = call.KeyScale is LoadedTensor keyScale ? Copy<float>(keyScale) : null;
            _valueScale = call.ValueScale is LoadedTensor valueScale ? Copy<float>(valueScale) : null;
            _output = Allocate<TQuery>(call.OutputShape);
            _logSumExp = Allocate<float>(call.LogSumExpShape);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override LoadedTensor Output => AsOutput(Bytes(_output));

    public override LoadedTensor LogSumExp => AsLogSumExp(Bytes(_logSumExp));

    public override void Poison()
    {
        MemoryMarshal.AsBytes(_output.AsSpan()).Fill(0xFF);
        MemoryMarshal.AsBytes(_logSumExp.AsSpan()).Fill(0xFF);
    }

    public override void Invoke(AttentionOptions options, RunOptions run)
    {
        Queue(options, run);
        _device.Synchronize();
    }

    /// <summary>Calls are queued while the GPU works on the ones before, so what the processor does for each is not in the time unless it takes longer than the GPU.</summary>
    public override TimeSpan Time(AttentionOptions options, RunOptions run, int calls)
    {
        double? before = _device.GpuSeconds;
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++) Queue(options, run);
        _device.Synchronize();
        TimeSpan elapsed = Stopwatch.GetElapsedTime(start);
        return _device.GpuSeconds - before is double seconds ? TimeSpan.FromSeconds(seconds) : elapsed;
    }

    protected override void Dispose(bool disposing)
    {
        foreach (MetalTensor tensor in _all) tensor.Dispose();
        _all.Clear();
        base.Dispose(disposing);
    }

    private static byte[] Bytes<T>(MetalTensor<T> tensor)
        where T : unmanaged
        => MemoryMarshal.AsBytes(tensor.AsReadOnlySpan()).ToArray();

    private void Queue(AttentionOptions options, RunOptions run)
    {
        var operands = new MetalOperands { BooleanMask = _mask, Bias = _bias, KeyScale = _keyScale, ValueScale = _valueScale, LogSumExp = run.WithoutLogSumExp ? null : _logSumExp, KeyLengths = Call.KeyLengths };
        switch (Call.Layout)
        {
            case SequenceLayout.Dense:
                MetalAttention.Forward(_query, _key, _value, _output, options, operands, run.CancellationToken);
                break;
            case SequenceLayout.VariableLength:
                MetalAttention.ForwardVariableLength(_query, _key, _value, _output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, options, operands, run.CancellationToken);
                break;
            default:
                var sequences = new PagedSequences(Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence);
                MetalAttention.ForwardPaged(_query, _key, _value, _output, sequences, options, operands, run.CancellationToken);
                break;
        }
    }

    private MetalTensor CopyBias(LoadedTensor bias) => bias.ElementType switch
    {
        TensorElementType.Float32 => Copy<float>(bias),
        TensorElementType.Float16 => Copy<Half>(bias),
        TensorElementType.BFloat16 => Copy<BFloat16>(bias),
        _ => throw WrongBias(bias),
    };

    private MetalTensor<T> Copy<T>(LoadedTensor tensor)
        where T : unmanaged
        => Kept(_device.Copy<T>(tensor));

    private MetalTensor<T> Allocate<T>(ReadOnlySpan<long> shape)
        where T : unmanaged
        => Kept(_device.Allocate<T>(LoadedTensor.Lengths(shape)));

    private MetalTensor<T> Kept<T>(MetalTensor<T> tensor)
        where T : unmanaged
    {
        _all.Add(tensor);
        return tensor;
    }
}
