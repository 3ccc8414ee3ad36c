using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Measurement;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Backends.Metal;

/// <summary>An Apple GPU: <see cref="MetalAttention"/> on tensors of the device.</summary>
internal sealed class MetalBackend(MetalDevice device) : Backend
{
    public const string BackendName = "metal";

    public MetalDevice Device { get; } = device;

    public override string Name => BackendName;

    public override string Title => $"{BackendName}, {Device}";

    public override string Clock => Device.GpuSeconds is null ? "wall clock, calls queued one after the other" : "the GPU's own clock";

    public override bool TakesEightBits => true;

    public override (string Name, string Value)[] Facts() =>
    [
        ("backend", Name),
        ("device", $"{Device}"),
        ("limits", $"{Device.Description.MaxThreadgroupMemory} bytes of threadgroup memory, {Units.Megabytes(Device.MaxTensorBytes)} a tensor"),
        ("simdgroup matrices", Device.Description.HasKnownLaneMap ? "as expected" : "NOT as expected: prefill is not used"),
    ];

    public override void ThrowIfNotSupported(RunOptions run)
        => MetalAttention.Explain<float, float>(Device, new AttentionShape(1, 1, 1, 1, 1, 1), run.Apply(AttentionOptions.Default));

    protected override PreparedCall Prepare<TQuery, TKeyValue>(CallInputs call) => new PreparedMetalCall<TQuery, TKeyValue>(Device, call);

    protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options, RunOptions run) => sizes.QueryLengths is null
        ? MetalAttention.Explain<TQuery, TKeyValue>(Device, sizes.Shape, options, Kinds(sizes))
        : MetalAttention.Explain<TQuery, TKeyValue>(Device, sizes.Shape, sizes.QueryLengths, sizes.KeyLengths, sizes.BlockSize, options, Kinds(sizes));

    protected override MergeResult Merge<TPartial, TOutput>(MergeInputs inputs)
    {
        (long[] shape, long[] statistics) = ([.. inputs.Outputs.Shape[1..]], [.. inputs.LogSumExps.Shape[1..]]);
        using MetalTensor<TPartial> outputs = Device.Copy<TPartial>(inputs.Outputs);
        using MetalTensor<float> logSumExps = Device.Copy<float>(inputs.LogSumExps), logSumExp = Device.Allocate<float>(LoadedTensor.Lengths(statistics));
        using MetalTensor<TOutput> output = Device.Allocate<TOutput>(LoadedTensor.Lengths(shape));
        MetalAttention.Merge(outputs, logSumExps, output, logSumExp, inputs.SinkLogits);
        return new(LoadedTensor.Create("o", output.AsReadOnlySpan(), shape), LoadedTensor.Create("lse", logSumExp.AsReadOnlySpan(), statistics));
    }

    protected override PreparedCache CreateCache<T>(PagedKeyValueCacheOptions options) => new PreparedMetalCache<T>(new(Device, options));

    private static OperandKinds Kinds(CallSizes sizes)
    {
        OperandKinds kinds = sizes.BiasType switch
        {
            TensorElementType.Float32 => OperandKinds.BiasFloat32,
            TensorElementType.Float16 => OperandKinds.BiasFloat16,
            TensorElementType.BFloat16 => OperandKinds.BiasBFloat16,
            _ => OperandKinds.None,
        };
        if (sizes.HasMask) kinds |= OperandKinds.BooleanMask;
        return kinds | OperandKinds.LogSumExp;
    }
}
