namespace FusedAttention.Serving;

/// <summary>One request's part of a step: some of its tokens, one after the other.</summary>
/// <param name="Request">Whose tokens they are.</param>
/// <param name="Sequence">Where their keys and values go.</param>
/// <param name="Position">The position of the first of them in the sequence.</param>
/// <param name="TokenCount">How many they are: one when decoding, more in a prefill.</param>
/// <param name="FirstRow">The row of the first of them in the packed rows of the step.</param>
/// <param name="LogitIndex">
/// The place of its last row in <see cref="BatchStep.LogitRows"/>, and so of its next token among those handed to <see cref="BatchScheduler.Complete"/>;
/// -1 if more of its known tokens are to follow, so that no logits are wanted.
/// </param>
public readonly record struct ScheduledRun(GenerationRequest Request, CacheSequence Sequence, int Position, int TokenCount, int FirstRow, int LogitIndex)
{
    /// <summary>Whether a token is to be sampled after the run's last row.</summary>
    public bool NeedsLogits => LogitIndex >= 0;
}
