using System.Runtime.InteropServices;

namespace FusedAttention.Serving;

/// <summary>
/// One prompt to be continued, and what has come of it. Made by <see cref="BatchScheduler.Add"/>. Its tokens may be read by the thread that runs the steps, and by any thread once it has ended.
/// </summary>
public sealed class GenerationRequest
{
    private readonly List<int> _tokens;
    private readonly int[] _stopTokens;

    internal GenerationRequest(BatchScheduler owner, long id, ReadOnlySpan<int> prompt, int maxNewTokens, ReadOnlySpan<int> stopTokens)
    {
        Owner = owner;
        Id = id;
        PromptLength = prompt.Length;
        MaxNewTokens = maxNewTokens;
        _tokens = new(prompt.Length + 16);
        _tokens.AddRange(prompt);
        _stopTokens = stopTokens.ToArray();
    }

    /// <summary>0, 1, 2, ... in the order of arrival at the scheduler.</summary>
    public long Id { get; }

    /// <summary>How many tokens the prompt has.</summary>
    public int PromptLength { get; }

    /// <summary>How many tokens are generated at most.</summary>
    public int MaxNewTokens { get; }

    /// <summary>Where the request stands.</summary>
    public GenerationState State { get; internal set; }

    /// <summary>Whether nothing more will come: finished or cancelled.</summary>
    public bool HasEnded => State is GenerationState.Finished or GenerationState.Cancelled;

    /// <summary>The prompt and what was generated so far. Valid until the next token comes.</summary>
    public ReadOnlySpan<int> Tokens => CollectionsMarshal.AsSpan(_tokens);

    /// <summary>What was generated so far, a stop token included. Valid until the next token comes.</summary>
    public ReadOnlySpan<int> GeneratedTokens => Tokens[PromptLength..];

    /// <summary>How often the request was put back because the pool was full.</summary>
    public int Preemptions { get; internal set; }

    /// <summary>Tokens that were found in the cache instead of being computed, over all times it was admitted.</summary>
    public long SharedTokens { get; internal set; }

    /// <summary>Anything the caller wants to find again with the request, such as its sampler; the scheduler does not look at it.</summary>
    public object? Tag { get; set; }

    internal BatchScheduler Owner { get; }

    /// <summary>The sequence that holds the computed tokens; <c>default</c> while the request has none.</summary>
    internal CacheSequence Sequence { get; set; }

    /// <summary>How many of the tokens have their keys and values in the cache.</summary>
    internal int Computed { get; set; }

    /// <summary>Part of the step that is under way, so its sequence may be in use.</summary>
    internal bool InStep { get; set; }

    internal int Uncomputed => _tokens.Count - Computed;

    /// <summary>The request as text, for messages and logs.</summary>
    public override string ToString() => $"request {Id}: {State}, {PromptLength} + {_tokens.Count - PromptLength} of {MaxNewTokens} tokens";

    /// <summary>Makes room, so that <see cref="Append"/> cannot fail.</summary>
    internal void ReserveToken() => _tokens.EnsureCapacity(_tokens.Count + 1);

    /// <returns>Whether the request is complete with this token.</returns>
    internal bool Append(int token)
    {
        _tokens.Add(token);
        return _tokens.Count - PromptLength == MaxNewTokens || _stopTokens.AsSpan().Contains(token);
    }
}
