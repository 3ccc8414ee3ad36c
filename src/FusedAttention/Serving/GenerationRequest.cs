using System.Runtime.InteropServices;
using FusedAttention.Paging.Ledger;

namespace FusedAttention.Serving;

/// <summary>
/// One prompt to be continued, and what has come of it. Made by <see cref="BatchScheduler.Add(ReadOnlySpan{int}, GenerationOptions)"/>. Its tokens may be read by the thread that runs the steps, and by any thread once it has
/// ended.
/// </summary>
public sealed partial class GenerationRequest
{
    private readonly List<int> _tokens;
    private TaskCompletionSource<FinishReason>? _completion;

    internal GenerationRequest(BatchScheduler owner, long id, ReadOnlySpan<int> prompt, GenerationOptions options, PrefixKeys keys)
    {
        Owner = owner;
        Id = id;
        PromptLength = prompt.Length;
        Options = options;
        Keys = keys;
        Tag = options.Tag;
        _tokens = new(prompt.Length + Math.Min(options.MaxNewTokens, 16));
        _tokens.AddRange(prompt);
    }

    /// <summary>0, 1, 2, ... in the order of arrival at the scheduler.</summary>
    public long Id { get; }

    /// <summary>How many tokens the prompt has.</summary>
    public int PromptLength { get; }

    /// <summary>What was asked for.</summary>
    public GenerationOptions Options { get; }

    /// <summary>How many tokens are generated at most.</summary>
    public int MaxNewTokens => Options.MaxNewTokens;

    /// <summary>Where the request stands.</summary>
    public GenerationState State { get; private set; }

    /// <summary>Why it has ended.</summary>
    public FinishReason FinishReason { get; private set; }

    /// <summary>Whether nothing more will come: finished or cancelled.</summary>
    public bool HasEnded => State is GenerationState.Finished or GenerationState.Cancelled;

    /// <summary>Completes with the reason when the request has ended, whoever or whatever ended it. By then its tokens are all there.</summary>
    public Task<FinishReason> Completion
    {
        get
        {
            // Whoever ends the request writes its state and looks for a source; here the source comes first and the state is read. So one of the two sees the other's.
            TaskCompletionSource<FinishReason> own = new(TaskCreationOptions.RunContinuationsAsynchronously);
            TaskCompletionSource<FinishReason> completion = Interlocked.CompareExchange(ref _completion, own, null) ?? own;
            if (HasEnded) completion.TrySetResult(FinishReason);
            return completion.Task;
        }
    }

    /// <summary>The prompt and what was generated so far. Valid until the next token comes.</summary>
    public ReadOnlySpan<int> Tokens => CollectionsMarshal.AsSpan(_tokens);

    /// <summary>What was generated so far, a stop token included. Valid until the next token comes.</summary>
    public ReadOnlySpan<int> GeneratedTokens => Tokens[PromptLength..];

    /// <summary>How often the request was put back because the pool was full.</summary>
    public int Preemptions { get; internal set; }

    /// <summary>Tokens that were found in the cache instead of being computed, over all times it was admitted.</summary>
    public long SharedTokens { get; internal set; }

    /// <summary>Anything the caller wants to find again with the request, such as its sampler; the scheduler does not look at it. <see cref="GenerationOptions.Tag"/> at first.</summary>
    public object? Tag { get; set; }

    /// <summary>The request as text, for messages and logs.</summary>
    public override string ToString() => $"request {Id}: {State}, {PromptLength} + {_tokens.Count - PromptLength} of {MaxNewTokens} tokens";
}
