using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Conformance;

namespace FusedAttention.Tests.Metal;

/// <summary>A reference case through a <see cref="MetalCaller"/>.</summary>
internal static class MetalReference
{
    public static CaseOutcome Run(ReferenceCase reference, MetalCaller caller, bool rowInvariant = false)
        => ReferenceRunner.Run(reference, new AttentionOptions { RowInvariant = rowInvariant }, call => HostCall.Create(call, caller));
}
