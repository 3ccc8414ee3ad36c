using FusedAttention.Paging.Ledger;

namespace FusedAttention.Serving;

/// <summary>What requests have in common: what the cache has of a prompt, what a running request is about to add to that, and what is published.</summary>
/// <remarks>Nothing here compares two requests token by token: keys stand for their beginnings, which come with the request. A wrong guess by two equal keys costs time, never a wrong text: the cache compares tokens.</remarks>
internal sealed class PrefixSharing(CacheLedger ledger, BatchSchedulerOptions options)
{
    /// <summary>How often a request waits for another one's tokens. Each wait ends, since who runs moves on in every step; so do all of them together.</summary>
    private const int MostTimesToFollow = 4;

    /// <summary>Who computes the block, or the whole prompt, that a key stands for.</summary>
    private readonly Dictionary<ulong, GenerationRequest> _computing = [];

    /// <summary>What the cache has of a request's tokens but for the last one, whose logits somebody has to compute.</summary>
    public PrefixMatch Match(GenerationRequest request)
    {
        if (!Looks(request)) return default;
        request.Keys.Extend(request.Tokens);
        return ledger.Match(PrefixOf(request, request.Tokens.Length - 1), options.Window, partial: true);
    }

    /// <summary>A sequence that starts with what was found.</summary>
    public CacheSequence Create(GenerationRequest request, ref PrefixMatch match)
        => Looks(request) ? ledger.Create(PrefixOf(request, request.Tokens.Length - 1), options.Window, partial: true, ref match) : ledger.Create();

    /// <summary>A running request that is about to compute more of these tokens than the cache has: then it is worth waiting for it.</summary>
    /// <param name="request">Who may wait.</param>
    /// <param name="match">What the cache has.</param>
    /// <param name="until">How many tokens the other one must have computed.</param>
    public GenerationRequest? FindLeader(GenerationRequest request, in PrefixMatch match, out int until)
    {
        until = 0;
        int limit = request.Tokens.Length - 1;
        if (!Looks(request) || request.TimesFollowed == MostTimesToFollow || match.Tokens >= limit || _computing.Count == 0) return null;
        GenerationRequest? leader;
        if (_computing.TryGetValue(KeyOfPrompt(request), out leader))
        {
            until = leader.Tokens.Length;
        }
        else
        {
            int blocks = match.Blocks, most = limit / ledger.BlockSize;
            if (blocks == most || !_computing.TryGetValue(request.Keys.Keys[blocks], out leader)) return null;
            until = CommonBlocks(request, leader, blocks + 1, most) * ledger.BlockSize;
        }

        return until > leader.Computed ? leader : null;
    }

    /// <summary>Lets others know which block a request computes next, and that it computes this prompt; or, if it has none to compute, that it does not.</summary>
    public void Announce(GenerationRequest request)
    {
        Withdraw(request);
        if (!Shares(request) || request.Uncomputed <= 1) return;
        int next = request.Computed / ledger.BlockSize;
        request.Keys.Extend(request.Tokens);
        if (next < request.Keys.Count && _computing.TryAdd(request.Keys.Keys[next], request)) request.AnnouncedBlock = request.Keys.Keys[next];
        ulong prompt = KeyOfPrompt(request);
        if (_computing.TryAdd(prompt, request)) request.AnnouncedPrompt = prompt;
    }

    /// <summary>Nobody is to wait for this request any more.</summary>
    public void Withdraw(GenerationRequest request)
    {
        if (request.AnnouncedBlock != 0) _computing.Remove(request.AnnouncedBlock);
        if (request.AnnouncedPrompt != 0) _computing.Remove(request.AnnouncedPrompt);
        request.AnnouncedBlock = request.AnnouncedPrompt = 0;
    }

    /// <summary>Makes the computed tokens of a request findable.</summary>
    /// <param name="request">The request.</param>
    /// <param name="computed">How many tokens.</param>
    /// <param name="withPartial">Whether the last block counts though it is not full.</param>
    /// <returns>False if the sequence was changed, or published by somebody else with other tokens.</returns>
    public bool TryPublish(GenerationRequest request, int computed, bool withPartial)
    {
        if (!Shares(request)) return true;
        request.Keys.Extend(request.Tokens[..computed]);
        return ledger.TryPublish(request.Sequence, PrefixOf(request, computed), withPartial);
    }

    private bool Shares(GenerationRequest request) => options.SharePrefixes && request.Options.SharePrefix;

    private bool Looks(GenerationRequest request) => Shares(request) && !request.OwesPromptLogits;

    private static TokenPrefix PrefixOf(GenerationRequest request, int tokens) => new(request.Tokens[..tokens], request.Keys.Keys, request.Keys.Identity);

    /// <summary>The key of all tokens but the last one, as a whole.</summary>
    private ulong KeyOfPrompt(GenerationRequest request)
    {
        int tokens = request.Tokens.Length - 1, blocks = tokens / ledger.BlockSize;

        // That a prompt ends here is part of it, so no key of a full block is the same.
        return PrefixKey.Next(~request.Keys.After(blocks), request.Tokens[(blocks * ledger.BlockSize)..tokens]);
    }

    /// <summary>How many full blocks begin alike; they do so up to some block, and none does behind it.</summary>
    private static int CommonBlocks(GenerationRequest a, GenerationRequest b, int known, int most)
    {
        int high = Math.Min(most, b.Keys.Count);
        while (known < high)
        {
            int middle = (known + high + 1) / 2;
            if (a.Keys.Keys[middle - 1] == b.Keys.Keys[middle - 1]) known = middle;
            else high = middle - 1;
        }

        return known;
    }
}
