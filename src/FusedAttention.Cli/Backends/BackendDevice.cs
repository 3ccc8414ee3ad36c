using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Checks;

namespace FusedAttention.Cli.Backends;

/// <summary>Something to run on.</summary>
/// <param name="Provider">Whose it is.</param>
/// <param name="Backend">Where its calls are made.</param>
internal sealed record BackendDevice(IBackendProvider Provider, Backend Backend)
{
    /// <summary>Checks of what only this backend has, beside those that all have in common.</summary>
    public IReadOnlyList<Check> Checks { get; init; } = [];
}
