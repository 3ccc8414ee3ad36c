using System.Runtime.CompilerServices;

namespace FusedAttention.Serving;

/// <summary>The limits of a <see cref="BatchScheduler"/>.</summary>
public sealed record BatchSchedulerOptions
{
    /// <summary>
    /// The most tokens that one step runs, prompts and decoding together; 1 or more, 512 by default. It bounds the time of a step, and so how long a decoding request waits for the prefill of others.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int MaxTokensPerStep { get; init => field = AtLeast(1, value); } = 512;

    /// <summary>The most requests that run at a time; 1 or more, 256 by default. Never more than <see cref="MaxTokensPerStep"/>, since each of them moves on in every step.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int MaxRunningRequests { get; init => field = AtLeast(1, value); } = 256;

    /// <summary>The most requests that wait; 1 or more, without a bound by default. What comes beyond is refused: <see cref="RequestRefusal.QueueFull"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int MaxWaitingRequests { get; init => field = AtLeast(1, value); } = int.MaxValue;

    /// <summary>
    /// The most that the first prompt in progress takes of the tokens which decoding leaves in a step, while other prompts could use them; above 0, at most 1, one half by default. The others divide the
    /// rest equally. With 1, each prompt in turn takes all it can.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not above 0 and at most 1.</exception>
    public double MaxPromptShare
    {
        get;
        init => field = value is > 0 and <= 1 ? value : throw new ArgumentOutOfRangeException(nameof(MaxPromptShare), value, "MaxPromptShare must be above 0 and at most 1.");
    } = 0.5;

    /// <summary>How many requests that find too few blocks are passed over in a step in search of smaller ones; 0 or more, 32 by default. With 0 nobody overtakes.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative.</exception>
    public int LookAhead { get; init => field = AtLeast(0, value); } = 32;

    /// <summary>How many others are admitted ahead of a request whose turn has come before nobody is any more until it runs; 1 or more, 64 by default. So every request ends.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is below 1.</exception>
    public int MaxOvertakes { get; init => field = AtLeast(1, value); } = 64;

    /// <summary>
    /// Store prompts that begin alike once (on by default): blocks are published as they are computed, and a request starts with those that hold its first tokens.
    /// Bits then depend on who computed a block, unless attention is <see cref="AttentionOptions.RowInvariant"/> and the rest of the model is row-invariant too.
    /// </summary>
    public bool SharePrefixes { get; init; } = true;

    /// <summary>
    /// How many tokens a query sees in any layer, its own included; 0, the default, if any layer sees all. With a window, a request gives blocks back as the window passes them, so it may be longer than the pool,
    /// and it starts from a prefix of which the pool has only what the window sees.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative.</exception>
    public int Window { get; init => field = AtLeast(0, value); }

    /// <summary>The clock of <see cref="GenerationOptions.TimeLimit"/>, and of nothing else.</summary>
    /// <exception cref="ArgumentNullException">The value is null.</exception>
    public TimeProvider TimeProvider { get; init => field = value ?? throw new ArgumentNullException(nameof(TimeProvider)); } = TimeProvider.System;

    private static int AtLeast(int least, int value, [CallerMemberName] string name = "") => value >= least
        ? value
        : throw new ArgumentOutOfRangeException(name, value, $"{name} must be {least} or more.");
}
