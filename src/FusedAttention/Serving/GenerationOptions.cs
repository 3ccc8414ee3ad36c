using System.Collections.Immutable;
using System.Globalization;

namespace FusedAttention.Serving;

/// <summary>What one request wants, beside its prompt.</summary>
public sealed record GenerationOptions
{
    /// <summary>
    /// How many tokens to generate at most; 0 or more, 16 by default. With 0 the prompt is computed and nothing more: to have it in the cache for those that begin like it, or for
    /// <see cref="PromptLogits"/>.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is negative.</exception>
    public int MaxNewTokens
    {
        get;
        init => field = value >= 0 ? value : throw new ArgumentOutOfRangeException(nameof(MaxNewTokens), value, "MaxNewTokens must be 0 or more.");
    } = 16;

    /// <summary>Tokens after which the request is finished; they become part of its text. None by default.</summary>
    public ImmutableArray<int> StopTokens
    {
        get;
        init => field = value.IsDefault ? [] : value;
    } = [];

    /// <summary>
    /// Requests with a higher number are admitted first and put back last; 0 by default. Those with a lower one are passed over by <see cref="BatchSchedulerOptions.MaxOvertakes"/> younger ones at
    /// most, each when its turn has come among its like, so that they end too.
    /// </summary>
    public int Priority { get; init; }

    /// <summary>How long the request may take, counted from <c>Add</c>; null for as long as it takes. When the time is over, the next step begins without it.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is not positive.</exception>
    public TimeSpan? TimeLimit
    {
        get;
        init => field = value is null || value > TimeSpan.Zero ? value : throw new ArgumentOutOfRangeException(nameof(TimeLimit), value, "TimeLimit must be positive.");
    }

    /// <summary>
    /// Whether the request starts with what others have computed, and lets others start with what it has; true by default, and of no effect where <see cref="BatchSchedulerOptions.SharePrefixes"/> is
    /// false.
    /// </summary>
    public bool SharePrefix { get; init; } = true;

    /// <summary>
    /// What the request's keys and values depend on beside its tokens: an adapter, an image that placeholder tokens stand for, a tenant whose prompts nobody else may find. Prefixes are shared between
    /// requests with the same identity only; null is one of its own.
    /// </summary>
    public string? PrefixIdentity { get; init; }

    /// <summary>
    /// Logits after every token of the prompt, not only after the last one: <see cref="BatchStep.LogitRows"/> has a row for each, once. What is sampled after those before the last is not looked at. All of the prompt
    /// is computed, so the request starts with nothing that others have.
    /// </summary>
    public bool PromptLogits { get; init; }

    /// <summary>The first <see cref="GenerationRequest.Tag"/> of the request: there before any step runs it.</summary>
    public object? Tag { get; init; }

    /// <summary>What is set, in a few words, for logs: <c>at most 200 tokens, stops after 2 or 13, priority 1, within 1.5 s</c>.</summary>
    public override string ToString()
    {
        var words = new List<string> { $"at most {MaxNewTokens} tokens" };
        if (StopTokens.Length > 0) words.Add($"stops after {string.Join(" or ", StopTokens)}");
        if (Priority != 0) words.Add($"priority {Priority}");
        if (TimeLimit is TimeSpan limit) words.Add(string.Create(CultureInfo.InvariantCulture, $"within {limit.TotalSeconds:0.###} s"));
        if (!SharePrefix) words.Add("shares no prefix");
        if (PrefixIdentity is not null) words.Add($"prefixes of '{PrefixIdentity}'");
        if (PromptLogits) words.Add("logits of the prompt");
        if (Tag is not null) words.Add($"tag {Tag}");
        return string.Join(", ", words);
    }
}
