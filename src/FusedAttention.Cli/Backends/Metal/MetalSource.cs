using FusedAttention.Metal.DropIn;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;

namespace FusedAttention.Cli.Backends.Metal;

/// <summary>The Metal kernels' text.</summary>
internal sealed class MetalSource : IKernelSource
{
    public IReadOnlyList<int> DefaultHeadDims => DropInSource.DefaultHeadDims;

    public string DropIn(params ReadOnlySpan<int> headDims) => DropInSource.Compose(headDims);

    public IEnumerable<SourceFile> Libraries() => KernelCatalog.Libraries().Select(static function => new SourceFile(NameOf(function), KernelSource.Compose(function)));

    /// <summary>The family and what it was made for: <c>prefill-half-half-128-128-16-4.metal</c>, <c>prefill-half-half-128-128-16-4-score-mask.metal</c>.</summary>
    private static string NameOf(KernelFunction function) =>
        $"{string.Join('-', function.Definitions.Select(static definition => definition.Value).Prepend(function.Family.ToString().ToLowerInvariant()))}{(function.Score is null ? "" : "-score")}{(function.Keep is null ? "" : "-mask")}.metal";
}
