using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;
using FusedAttention.Cuda.Planning;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>An NVIDIA GPU: <see cref="CudaAttention"/> on tensors of the device.</summary>
internal sealed class CudaBackend(CudaDevice device) : Backend
{
    public const string BackendName = "cuda";

    public CudaDevice Device { get; } = device;

    public override string Name => BackendName;

    public override string Title => $"{BackendName}, {Device}";

    public override string Clock => Device.DefaultStream.HasTimer
        ? $"the GPU's own clock; keys and values of few queries come from several copies in turn, so that the L2 ({Units.Megabytes(Device.Description.L2Bytes)}) has none of them"
        : "wall clock, calls queued one after the other";

    public override (string Name, string Value)[] Facts() =>
    [
        ("backend", Name),
        ("device", $"{Device}"),
        ("limits", $"{Device.Multiprocessors} multiprocessors, {Device.Description.MaxSharedMemory} bytes of shared memory a block, {Units.Megabytes(Device.MemoryBytes)}"),
        ("driver", NvidiaDriver.Of(Device)),
    ];

    /// <summary>Whether the prefill kernel has a second form here.</summary>
    public bool HasWarpgroups => Device.Description is { Major: TileTable.WarpgroupMajor, Minor: 0, DriverVersion: >= TileTable.FirstWarpgroupDriver };

    public override bool TakesEightBits => true;

    /// <summary>Forms of the prefill kernel.</summary>
    public override void Choose(string? variant) => Device.PrefillForm = variant is null ? PrefillForms.Default : PrefillForms.Of(variant) ?? throw new ArgumentException($"{Name} has no variant {variant}.", nameof(variant));

    public override double? MeasureReadRate() => ReadRate.Measure(Device);

    public override void ThrowIfNotSupported(RunOptions run)
        => CudaAttention.Explain<float, float>(Device, new AttentionShape(1, 1, 1, 1, 1, 1), run.Apply(AttentionOptions.Default));

    protected override PreparedCall Prepare<TQuery, TKeyValue>(CallInputs call) => new PreparedCudaCall<TQuery, TKeyValue>(Device, call);

    protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options, RunOptions run) => sizes.QueryLengths is null
        ? CudaAttention.Explain<TQuery, TKeyValue>(Device, sizes.Shape, options, Kinds(sizes))
        : CudaAttention.Explain<TQuery, TKeyValue>(Device, sizes.Shape, sizes.QueryLengths, sizes.KeyLengths, sizes.BlockSize, options, Kinds(sizes));

    protected override MergeResult Merge<TPartial, TOutput>(MergeInputs inputs)
    {
        (long[] shape, long[] statistics) = ([.. inputs.Outputs.Shape[1..]], [.. inputs.LogSumExps.Shape[1..]]);
        using CudaTensor<TPartial> outputs = Device.Copy<TPartial>(inputs.Outputs);
        using CudaTensor<float> logSumExps = Device.Copy<float>(inputs.LogSumExps), logSumExp = Device.Allocate<float>(LoadedTensor.Lengths(statistics));
        using CudaTensor<TOutput> output = Device.Allocate<TOutput>(LoadedTensor.Lengths(shape));
        CudaAttention.Merge(outputs, logSumExps, output, logSumExp, inputs.SinkLogits);
        return new(LoadedTensor.Create<TOutput>("o", output.ToArray(), shape), LoadedTensor.Create<float>("lse", logSumExp.ToArray(), statistics));
    }

    protected override PreparedCache CreateCache<T>(PagedKeyValueCacheOptions options) => new PreparedCudaCache<T>(new(Device, options));

    private static OperandKinds Kinds(CallSizes sizes)
    {
        OperandKinds kinds = sizes.BiasType switch
        {
            TensorElementType.Float32 => OperandKinds.BiasFloat32,
            TensorElementType.Float16 => OperandKinds.BiasFloat16,
            TensorElementType.BFloat16 => OperandKinds.BiasBFloat16,
            _ => OperandKinds.None,
        };
        if (sizes.HasBiasOfKeys) kinds |= OperandKinds.BiasOfKeys;
        if (sizes.HasMask) kinds |= OperandKinds.BooleanMask;
        return kinds | OperandKinds.LogSumExp;
    }
}
