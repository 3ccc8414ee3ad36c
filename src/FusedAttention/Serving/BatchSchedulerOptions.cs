using System.Runtime.CompilerServices;

namespace FusedAttention.Serving;

/// <summary>The limits of a <see cref="BatchScheduler"/>.</summary>
public sealed record BatchSchedulerOptions
{
    /// <summary>
    /// The most tokens that one step runs, prompts and decoding together; 1 or more, 512 by default. It bounds the time of a step, and so how long a decoding request waits for the prefill of others.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int MaxTokensPerStep { get; init => field = AtLeastOne(value); } = 512;

    /// <summary>The most requests that run at a time; 1 or more, 256 by default. Never more than <see cref="MaxTokensPerStep"/>, since each of them moves on in every step.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int MaxRunningRequests { get; init => field = AtLeastOne(value); } = 256;

    /// <summary>
    /// Store prompts that begin alike once (on by default): full blocks are published as they are computed, and a request starts with those that hold its first tokens.
    /// Bits then depend on who computed a block, unless attention is <see cref="AttentionOptions.RowInvariant"/> and the rest of the model is row-invariant too.
    /// </summary>
    public bool SharePrefixes { get; init; } = true;

    private static int AtLeastOne(int value, [CallerMemberName] string name = "") => value >= 1
        ? value
        : throw new ArgumentOutOfRangeException(name, value, $"{name} must be 1 or more.");
}
