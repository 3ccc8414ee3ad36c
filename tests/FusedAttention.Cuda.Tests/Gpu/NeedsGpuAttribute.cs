using Xunit.v3;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>A test that runs on the GPU of this machine and is skipped where there is none: <c>--filter-trait needs=gpu</c>.</summary>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method)]
public sealed class NeedsGpuAttribute : Attribute, ITraitAttribute
{
    /// <inheritdoc />
    public IReadOnlyCollection<KeyValuePair<string, string>> GetTraits() => [new("needs", "gpu")];
}
