using FusedAttention.Comparison.Cases;

namespace FusedAttention.Comparison.Contenders;

/// <summary>This contender does not offer the case; the message says why, in its own words where it has some.</summary>
internal sealed class NotOfferedException(string message) : Exception(message);

/// <summary>One implementation, set up for one case: everything that can be prepared is, so that <see cref="Run"/> is attention and nothing else.</summary>
internal abstract class Contender : IDisposable
{
    /// <summary>Computes the case.</summary>
    public abstract void Run();

    /// <summary>Tells threads that look out for more work to sleep: another contender is next.</summary>
    public virtual void Rest()
    {
    }

    /// <summary>The output of the last run, <c>[query][head][dim]</c>.</summary>
    public abstract void CopyOutput(Span<float> output);

    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    protected abstract void Dispose(bool disposing);
}

/// <summary>A contender before it is set up.</summary>
/// <param name="Name">Its name in the report.</param>
/// <param name="Layout">How it wants its keys and values.</param>
/// <param name="IsOurs">Whether it is this library.</param>
/// <param name="Create">Sets it up for a case; throws <see cref="NotOfferedException"/>.</param>
/// <param name="Version">A peer's library and its version; null for ours.</param>
internal sealed record ContenderEntry(string Name, string Layout, bool IsOurs, Func<AttentionCase, CaseInputs, Contender> Create, string? Version = null);
