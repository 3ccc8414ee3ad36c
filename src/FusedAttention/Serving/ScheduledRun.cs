namespace FusedAttention.Serving;

/// <summary>One request's part of a step: some of its tokens, one after the other, and perhaps drafts behind them.</summary>
/// <param name="Request">Whose tokens they are.</param>
/// <param name="Sequence">Where their keys and values go.</param>
/// <param name="Position">The position of the first of them in the sequence.</param>
/// <param name="TokenCount">How many they are, drafts included: one when decoding, more in a prefill.</param>
/// <param name="FirstRow">The row of the first of them in the packed rows of the step.</param>
/// <param name="LogitIndex">
/// The place of its first row that needs logits in <see cref="BatchStep.LogitRows"/>, and so among the tokens handed to <see cref="BatchScheduler.Complete"/>;
/// -1 if none does, because more of its known tokens are to follow.
/// </param>
/// <param name="LogitCount">How many of its rows need logits: its last ones. One, or one more than it has drafts; with <see cref="GenerationOptions.PromptLogits"/> those of the prompt too.</param>
/// <param name="DraftCount">How many of its tokens are drafts: its last ones.</param>
public readonly record struct ScheduledRun(GenerationRequest Request, CacheSequence Sequence, int Position, int TokenCount, int FirstRow, int LogitIndex, int LogitCount, int DraftCount)
{
    /// <summary>Whether a token is to be sampled after any of its rows.</summary>
    public bool NeedsLogits => LogitCount > 0;

    /// <summary>Tokens that are no drafts.</summary>
    internal int KnownCount => TokenCount - DraftCount;
}
