using FusedAttention.Cuda.Planning;

namespace FusedAttention.Cuda.Comparison;

/// <summary>A call with its tensors and options made, so that running it again costs what it costs a program that keeps its own.</summary>
internal abstract class PreparedCall(CudaDevice device, CallDescription description)
{
    protected CudaDevice Device { get; } = device;

    protected CallDescription Description { get; } = description;

    public static unsafe PreparedCall Of(CudaDevice device, CudaStream stream, NativeCall* call)
    {
        var description = new CallDescription(call);
        return description.ElementType switch
        {
            NativeElementType.Float16 => Of<Half>(device, stream, description, call),
            NativeElementType.BFloat16 => Of<BFloat16>(device, stream, description, call),
            NativeElementType.Float32 => Of<float>(device, stream, description, call),
            _ => throw new ArgumentException($"Queries of type {description.ElementType}."),
        };
    }

    private static unsafe PreparedCall Of<TQuery>(CudaDevice device, CudaStream stream, CallDescription description, NativeCall* call)
        where TQuery : unmanaged => description.KeyValueType switch
        {
            NativeElementType.Int8 => new PreparedCall<TQuery, sbyte>(device, stream, description, call),
            NativeElementType.Float8E4M3 => new PreparedCall<TQuery, Float8E4M3>(device, stream, description, call),
            _ when description.KeyValueType == description.ElementType => new PreparedCall<TQuery, TQuery>(device, stream, description, call),
            _ => throw new ArgumentException($"Keys of type {description.KeyValueType} under queries of type {description.ElementType}."),
        };

    /// <summary>Queues the call.</summary>
    public abstract void Run();

    /// <summary>What runs, and why.</summary>
    public abstract AttentionExplanation Explain();

    /// <summary>Writes and loads the kernels.</summary>
    public abstract void Prepare();

    /// <summary>Has the calls that follow take this call's form of the prefill.</summary>
    protected void TakeForm() => Device.PrefillForm = Description.Form switch
    {
        NativeForm.Mma => PrefillForm.Warps,
        NativeForm.Wgmma => PrefillForm.Warpgroups,
        _ => PrefillForms.Default,
    };

    protected static unsafe CudaTensor<T> Wrap<T>(CudaDevice device, in NativeTensor tensor)
        where T : unmanaged
    {
        int rank = (int)tensor.Rank;
        Span<nint> lengths = stackalloc nint[NativeTensor.MostDimensions], strides = stackalloc nint[NativeTensor.MostDimensions];
        for (int i = 0; i < rank; i++) (lengths[i], strides[i]) = ((nint)tensor.Lengths[i], (nint)tensor.Strides[i]);
        return device.Wrap<T>(tensor.Address, lengths[..rank], strides[..rank]);
    }
}

/// <summary>Of given element types.</summary>
internal sealed class PreparedCall<TQuery, TKeyValue> : PreparedCall
    where TQuery : unmanaged
    where TKeyValue : unmanaged
{
    private readonly CudaStream _stream;
    private readonly CudaTensor<TQuery> _query;
    private readonly CudaTensor<TKeyValue> _key;
    private readonly CudaTensor<TKeyValue> _value;
    private readonly CudaTensor<TQuery> _output;
    private readonly CudaTensor<bool>? _mask;
    private readonly CudaTensor? _bias;
    private readonly CudaTensor<float>? _logSumExp;
    private readonly CudaTensor<float>? _keyScale;
    private readonly CudaTensor<float>? _valueScale;

    public unsafe PreparedCall(CudaDevice device, CudaStream stream, CallDescription description, NativeCall* call)
        : base(device, description)
    {
        _stream = stream;
        _query = Wrap<TQuery>(device, call->Query);
        _key = Wrap<TKeyValue>(device, call->Key);
        _value = Wrap<TKeyValue>(device, call->Value);
        _output = Wrap<TQuery>(device, call->Output);
        if (call->Mask.Address != 0) _mask = Wrap<bool>(device, call->Mask);
        if (call->LogSumExp.Address != 0) _logSumExp = Wrap<float>(device, call->LogSumExp);
        if (call->KeyScale.Address != 0) _keyScale = Wrap<float>(device, call->KeyScale);
        if (call->ValueScale.Address != 0) _valueScale = Wrap<float>(device, call->ValueScale);
        if (call->Bias.Address != 0)
        {
            _bias = (NativeElementType)call->Bias.ElementType switch
            {
                NativeElementType.Float16 => Wrap<Half>(device, call->Bias),
                NativeElementType.BFloat16 => Wrap<BFloat16>(device, call->Bias),
                _ => Wrap<float>(device, call->Bias),
            };
        }
    }

    public override void Run()
    {
        TakeForm();
        var operands = new CudaOperands { BooleanMask = _mask, Bias = _bias, LogSumExp = _logSumExp, KeyScale = _keyScale, ValueScale = _valueScale };
        switch (Description.Kind)
        {
            case NativeCallKind.Dense:
                CudaAttention.Forward(_query, _key, _value, _output, Description.Options, operands, _stream);
                break;
            case NativeCallKind.Packed:
                CudaAttention.ForwardVariableLength(_query, _key, _value, _output, Description.CumulativeQueryLengths, Description.KeyLengths, Description.Options, operands, _stream);
                break;
            case NativeCallKind.Paged:
                var sequences = new PagedSequences(Description.CumulativeQueryLengths, Description.KeyLengths, Description.BlockTables, Description.TableColumns);
                CudaAttention.ForwardPaged(_query, _key, _value, _output, sequences, Description.Options, operands, _stream);
                break;
            default:
                throw new InvalidOperationException($"A call of kind {Description.Kind}.");
        }
    }

    public override AttentionExplanation Explain()
    {
        TakeForm();
        if (Description.Kind == NativeCallKind.Dense) return CudaAttention.Explain<TQuery, TKeyValue>(Device, Description.Shape, Description.Options, Description.Operands);
        (int[] queries, int[] keys) = Lengths();
        return CudaAttention.Explain<TQuery, TKeyValue>(Device, Description.Shape, queries, keys, Description.BlockSize, Description.Options, Description.Operands);
    }

    public override void Prepare()
    {
        TakeForm();
        if (Description.Kind == NativeCallKind.Dense)
        {
            CudaAttention.Prepare<TQuery, TKeyValue>(Device, Description.Shape, Description.Options, Description.Operands);
            return;
        }

        (int[] queries, int[] keys) = Lengths();
        CudaAttention.Prepare<TQuery, TKeyValue>(Device, Description.Shape, queries, keys, Description.BlockSize, Description.Options, Description.Operands);
    }

    private (int[] Queries, int[] Keys) Lengths()
        => (Differences(Description.CumulativeQueryLengths), Description.Kind == NativeCallKind.Packed ? Differences(Description.KeyLengths) : Description.KeyLengths);

    private static int[] Differences(int[] cumulative) => [.. cumulative.Skip(1).Zip(cumulative, static (end, start) => end - start)];
}
