namespace FusedAttention.Serving;

/// <summary>Where a <see cref="GenerationRequest"/> stands.</summary>
public enum GenerationState
{
    /// <summary>It holds no blocks: it has not been admitted yet, or was put back because the pool was full.</summary>
    Waiting,

    /// <summary>It has a sequence in the cache and takes part in every step.</summary>
    Running,

    /// <summary>It has all its tokens, or has met a stop token.</summary>
    Finished,

    /// <summary>It was cancelled; the tokens it had until then remain readable.</summary>
    Cancelled,
}
