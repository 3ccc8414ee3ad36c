using Xunit.v3;

namespace FusedAttention.Testing;

/// <summary>
/// A test that the fast lane leaves out (<c>--filter-not-trait speed=slow</c>): it takes seconds, and what it looks for is broken by a change of some other test's subject, or seldom.
/// </summary>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Method)]
public sealed class SlowAttribute : Attribute, ITraitAttribute
{
    /// <inheritdoc />
    public IReadOnlyCollection<KeyValuePair<string, string>> GetTraits() => [new("speed", "slow")];
}
