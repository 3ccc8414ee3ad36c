using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Measurement;

namespace FusedAttention.Cli.Backends;

/// <summary>The processor: <see cref="Attention"/> on arrays.</summary>
internal sealed class CpuBackend : Backend
{
    public override string Name => "cpu";

    public override string Title => "cpu";

    public override string Clock => "wall clock";

    public override (string Name, string Value)[] Facts() => [("backend", Name), ("processor", Processor.Name ?? "unknown")];

    public override void ThrowIfNotSupported(AttentionOptions options)
    {
        Span<float> one = [1f];
        Span<float> result = stackalloc float[1];
        Attention.Forward<float, float>(one, one, one, result, new AttentionShape(1, 1, 1, 1, 1, 1), options);
    }

    protected override PreparedCall Prepare<TQuery, TKeyValue>(AttentionCall call) => new CpuCall<TQuery, TKeyValue>(this, call);

    protected override AttentionExplanation Explain<TQuery, TKeyValue>(CallSizes sizes, AttentionOptions options) => sizes.QueryLengths is null
        ? Attention.Explain<TQuery, TKeyValue>(sizes.Shape, options)
        : Attention.Explain<TQuery, TKeyValue>(sizes.Shape, sizes.QueryLengths, sizes.KeyLengths, sizes.BlockSize, options);
}
