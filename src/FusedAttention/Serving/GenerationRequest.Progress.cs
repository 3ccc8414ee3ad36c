using FusedAttention.Paging.Ledger;

namespace FusedAttention.Serving;

/// <content>What the scheduler knows of a request: how far it is, and where it waits.</content>
public sealed partial class GenerationRequest
{
    internal BatchScheduler Owner { get; }

    /// <summary>The keys of its tokens' full blocks.</summary>
    internal PrefixKeys Keys { get; }

    /// <summary>The sequence that holds the computed tokens; <c>default</c> while the request has none.</summary>
    internal CacheSequence Sequence { get; set; }

    /// <summary>How many of the tokens have their keys and values in the cache.</summary>
    internal int Computed { get; set; }

    /// <summary>Known tokens that have not.</summary>
    internal int Uncomputed => _tokens.Count - Computed;

    /// <summary>Leading tokens of the prompt whose logits the caller has had, where it wants them.</summary>
    internal int PromptLogitsGiven { get; set; }

    /// <summary>Whether logits of the prompt are still wanted.</summary>
    internal bool OwesPromptLogits => Options.PromptLogits && PromptLogitsGiven < PromptLength;

    /// <summary>Part of the step that is under way, so its sequence may be in use.</summary>
    internal bool InStep { get; set; }

    /// <summary>What is believed to follow the last token.</summary>
    internal DraftTree? Drafts { get; set; }

    /// <summary>How many of its uncomputed tokens the next step runs.</summary>
    internal int Granted { get; set; }

    /// <summary>How many drafts it runs behind them.</summary>
    internal int GrantedDrafts { get; set; }

    /// <summary>The list it is in while it waits.</summary>
    internal RequestList? List { get; set; }

    internal GenerationRequest? Previous { get; set; }

    internal GenerationRequest? Next { get; set; }

    /// <summary>How many were admitted ahead of it when its turn had come.</summary>
    internal int Overtaken { get; set; }

    /// <summary>It was overtaken as often as may be, so it comes before all that were not.</summary>
    internal bool IsDue { get; set; }

    /// <summary>Who computes tokens that it waits for.</summary>
    internal GenerationRequest? Leader { get; set; }

    /// <summary>How many tokens the leader must have computed.</summary>
    internal int LeaderMustHave { get; set; }

    /// <summary>How often it has waited for another one's tokens.</summary>
    internal int TimesFollowed { get; set; }

    /// <summary>Those that wait for its tokens.</summary>
    internal RequestList Followers { get; } = new();

    /// <summary>The fewest tokens that any of them waits for.</summary>
    internal int FirstFollowerWaitsFor { get; set; }

    /// <summary>The keys under which others find that it computes a prefix; 0 for none.</summary>
    internal ulong AnnouncedBlock { get; set; }

    internal ulong AnnouncedPrompt { get; set; }

    /// <summary>It has a sequence.</summary>
    internal void BeginRunning() => State = GenerationState.Running;

    /// <summary>It has none any more, and waits for one.</summary>
    internal void BeginWaiting() => State = GenerationState.Waiting;

    /// <summary>Nothing more will come.</summary>
    internal void End(FinishReason reason)
    {
        FinishReason = reason;
        State = reason is FinishReason.Stop or FinishReason.Length ? GenerationState.Finished : GenerationState.Cancelled;
        Interlocked.MemoryBarrier();
        _completion?.TrySetResult(reason);
    }

    /// <summary>Makes room, so that <see cref="Accept"/> cannot fail.</summary>
    internal void ReserveTokens(int count) => _tokens.EnsureCapacity(_tokens.Count + count);

    /// <summary>Takes the token sampled after the last one; and if a draft has said so before, the one sampled after that draft, and so on.</summary>
    /// <param name="sampled">The tokens sampled after the last token and after each of the drafts that were run.</param>
    /// <param name="end">Why the request is complete with these tokens; <see cref="FinishReason.None"/> if it is not.</param>
    /// <returns>How many drafts were right.</returns>
    internal int Accept(ReadOnlySpan<int> sampled, out FinishReason end)
    {
        int drafts = sampled.Length - 1, draft = DraftTree.Root, right = 0;
        bool inPlace = true;
        while (true)
        {
            int token = sampled[draft + 1];
            _tokens.Add(token);
            end = Options.StopTokens.Contains(token) ? FinishReason.Stop : _tokens.Count - PromptLength == MaxNewTokens ? FinishReason.Length : FinishReason.None;
            draft = end == FinishReason.None && drafts > 0 ? Drafts!.Find(draft, token, drafts) : DraftTree.Root;
            if (draft == DraftTree.Root) break;

            // Keys and values lie in the order of the drafts: they are of use as far as the right ones are the first ones. The others are computed again, as tokens that are known.
            inPlace &= draft == right;
            if (inPlace) Computed++;
            right++;
        }

        Drafts = null;
        return right;
    }
}
