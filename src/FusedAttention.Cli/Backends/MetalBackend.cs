using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Checks;
using FusedAttention.Cli.Commands;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Backends;

/// <summary>An Apple GPU: <see cref="MetalAttention"/> on tensors of the device.</summary>
internal sealed class MetalBackend(MetalDevice device) : Backend
{
    public MetalDevice Device { get; } = device;

    public override string Name => "metal";

    public override string Title => $"metal, {Device}";

    public override string Clock => Device.GpuSeconds is null ? "wall clock, calls queued one after the other" : "the GPU's own clock";

    public override IReadOnlyList<BenchRow> BenchRows => BenchTable.Metal;

    public override (string Name, string Value)[] Facts() =>
    [
        ("backend", Name),
        ("device", $"{Device}"),
        ("limits", $"{Device.Description.MaxThreadgroupMemory} bytes of threadgroup memory, {OptionText.Megabytes(Device.MaxTensorBytes)} a tensor"),
        ("simdgroup matrices", Device.Description.HasKnownLaneMap ? "as expected" : "NOT as expected: prefill is not used"),
    ];

    public override IEnumerable<Check> Checks() => MetalChecks.Of(Device);

    public override void ThrowIfNotSupported(AttentionOptions options) => MetalAttention.Explain<float, float>(Device, new AttentionShape(1, 1, 1, 1, 1, 1), options);

    protected override PreparedCall Prepare<TQuery, TKeyValue>(AttentionCall call) => new MetalCall<TQuery, TKeyValue>(this, call);

    protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options) => sizes.QueryLengths is null
        ? MetalAttention.Explain<TQuery, TKeyValue>(Device, sizes.Shape, options, Kinds(sizes))
        : MetalAttention.Explain<TQuery, TKeyValue>(Device, sizes.Shape, sizes.QueryLengths, sizes.KeyLengths, sizes.BlockSize, options, Kinds(sizes));

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
