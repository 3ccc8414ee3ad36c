using System.Diagnostics;
using System.Runtime.InteropServices;
using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using FusedAttention.Cuda.Launching;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>A call of <see cref="CudaAttention"/> on copies of the loaded tensors in memory of the device.</summary>
internal sealed class PreparedCudaCall<TQuery, TKeyValue> : PreparedCall
    where TQuery : unmanaged
    where TKeyValue : unmanaged
{
    /// <summary>Queries of a sequence up to which reading keys and values is what a call is timed for.</summary>
    private const int FewQueries = 16;

    /// <summary>How many times the L2 is read before the same keys are read again: its lines do not go in the order in which they came.</summary>
    private const int CacheTurns = 4;

    private readonly CudaDevice _device;
    private readonly List<CudaTensor> _all = [];
    private readonly CudaTensor<TQuery> _query;
    private readonly CudaTensor<bool>? _mask;
    private readonly CudaTensor? _bias;
    private readonly CudaTensor<float>? _keyScale;
    private readonly CudaTensor<float>? _valueScale;
    private readonly CudaTensor<TQuery> _output;
    private readonly CudaTensor<float> _logSumExp;

    /// <summary>Keys and values; more than one pair for timing only.</summary>
    private readonly List<(CudaTensor<TKeyValue> Key, CudaTensor<TKeyValue> Value)> _copies = [];
    private IStreamTimer? _timer;
    private CudaTensor<byte>? _runUp;
    private int _next;

    public PreparedCudaCall(CudaDevice device, CallInputs call)
        : base(call)
    {
        _device = device;
        try
        {
            _query = Copy<TQuery>(call.Query);
            AddCopy();
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

    public override LoadedTensor Output => AsOutput(_output.ToBytes());

    public override LoadedTensor LogSumExp => AsLogSumExp(_logSumExp.ToBytes());

    public override void Poison()
    {
        Poison(_output);
        Poison(_logSumExp);
    }

    public override void Invoke(AttentionOptions options, RunOptions run)
    {
        Queue(options, run);
        _device.DefaultStream.Synchronize();
    }

    /// <summary>
    /// Calls are queued while the GPU works on the ones before, so what the processor does for each is not in the time unless it takes longer than the GPU. The clock starts behind some other work, during
    /// which the first calls are queued.
    /// </summary>
    public override TimeSpan Time(AttentionOptions options, RunOptions run, int calls)
    {
        CudaStream stream = _device.DefaultStream;
        PrepareTiming(stream);
        if (_runUp is not null) stream.Clear(_runUp);
        long start = Stopwatch.GetTimestamp();
        _timer?.Start();
        for (int i = 0; i < calls; i++) Queue(options, run);
        _timer?.Stop();
        if (_timer is not null) return TimeSpan.FromMilliseconds(_timer.Milliseconds());
        stream.Synchronize();
        return Stopwatch.GetElapsedTime(start);
    }

    protected override void Dispose(bool disposing)
    {
        _timer?.Dispose();
        _timer = null;
        foreach (CudaTensor tensor in _all) tensor.Dispose();
        _all.Clear();
        base.Dispose(disposing);
    }

    private static void Poison<T>(CudaTensor<T> tensor)
        where T : unmanaged
    {
        byte[] bytes = new byte[tensor.FlattenedLength * Marshal.SizeOf<T>()];
        bytes.AsSpan().Fill(0xFF);
        tensor.CopyFrom(MemoryMarshal.Cast<byte, T>(bytes));
    }

    private void Queue(AttentionOptions options, RunOptions run)
    {
        (CudaTensor<TKeyValue> key, CudaTensor<TKeyValue> value) = _copies[_next];
        if (++_next == _copies.Count) _next = 0;
        var operands = new CudaOperands { BooleanMask = _mask, Bias = _bias, KeyScale = _keyScale, ValueScale = _valueScale, LogSumExp = run.WithoutLogSumExp ? null : _logSumExp, KeyLengths = Call.KeyLengths };
        switch (Call.Layout)
        {
            case SequenceLayout.Dense:
                CudaAttention.Forward(_query, key, value, _output, options, operands, cancellationToken: run.CancellationToken);
                break;
            case SequenceLayout.VariableLength:
                CudaAttention.ForwardVariableLength(_query, key, value, _output, Call.CumulativeQueryLengths, Call.CumulativeKeyLengths, options, operands, cancellationToken: run.CancellationToken);
                break;
            default:
                var sequences = new PagedSequences(Call.CumulativeQueryLengths, Call.ContextLengths, Call.BlockTables, Call.MaxBlocksPerSequence);
                CudaAttention.ForwardPaged(_query, key, value, _output, sequences, options, operands, cancellationToken: run.CancellationToken);
                break;
        }
    }

    /// <summary>Events, something for the device to do while the first calls are queued, and as many copies of keys and values as it takes for none to be found in the L2.</summary>
    private void PrepareTiming(CudaStream stream)
    {
        _timer ??= stream.CreateTimer();
        long turn = CacheTurns * _device.Description.L2Bytes;
        if (_runUp is not null || turn == 0) return;
        _runUp = Allocate<byte>([turn]);
        long bytes = (long)Call.Key.Bytes.Length + Call.Value.Bytes.Length;
        int sequences = Call.Layout == SequenceLayout.Dense ? 1 : Call.SequenceCount;
        if (bytes == 0 || Call.QueryLength > (long)FewQueries * sequences) return;
        for (long read = bytes; read < turn; read += bytes) AddCopy();
    }

    private void AddCopy() => _copies.Add((Copy<TKeyValue>(Call.Key), Copy<TKeyValue>(Call.Value)));

    private CudaTensor CopyBias(LoadedTensor bias) => bias.ElementType switch
    {
        TensorElementType.Float32 => Copy<float>(bias),
        TensorElementType.Float16 => Copy<Half>(bias),
        TensorElementType.BFloat16 => Copy<BFloat16>(bias),
        _ => throw WrongBias(bias),
    };

    private CudaTensor<T> Copy<T>(LoadedTensor tensor)
        where T : unmanaged
        => Kept(_device.Copy<T>(tensor));

    private CudaTensor<T> Allocate<T>(ReadOnlySpan<long> shape)
        where T : unmanaged
        => Kept(_device.Allocate<T>(LoadedTensor.Lengths(shape)));

    private CudaTensor<T> Kept<T>(CudaTensor<T> tensor)
        where T : unmanaged
    {
        _all.Add(tensor);
        return tensor;
    }
}
