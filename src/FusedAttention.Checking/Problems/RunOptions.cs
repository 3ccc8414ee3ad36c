namespace FusedAttention.Checking.Problems;

/// <summary>How to run whatever is computed. Row invariance is a question of what is computed for the library; here it is one of how, because any problem can be run with it.</summary>
public sealed record RunOptions
{
    /// <summary>As the library does by default.</summary>
    public static RunOptions Default { get; } = new();

    /// <summary>For the processor; other backends have no such choice.</summary>
    public CpuExecution Execution { get; init; } = CpuExecution.Default;

    /// <summary>Runs every call with <see cref="AttentionOptions.RowInvariant"/>.</summary>
    public bool RowInvariant { get; init; }

    /// <summary>Makes every call without a log-sum-exp, as engines do who do not merge: it may cost time, and of 8-bit integers on the CPU it chooses the kernel. What a prepared call has of it is then left as it was.</summary>
    public bool WithoutLogSumExp { get; init; }

    public CancellationToken CancellationToken { get; init; }

    /// <summary>The options of a problem as it runs.</summary>
    public AttentionOptions Apply(AttentionOptions options) => options with { RowInvariant = options.RowInvariant || RowInvariant };
}
