namespace FusedAttention.Serving;

/// <summary>Why a <see cref="GenerationRequest"/> has ended.</summary>
public enum FinishReason
{
    /// <summary>It has not.</summary>
    None,

    /// <summary>It has met one of its stop tokens.</summary>
    Stop,

    /// <summary>It has all the tokens that it may have.</summary>
    Length,

    /// <summary>It was cancelled, or the scheduler was disposed.</summary>
    Cancelled,

    /// <summary>Its time was over.</summary>
    DeadlineExceeded,
}
