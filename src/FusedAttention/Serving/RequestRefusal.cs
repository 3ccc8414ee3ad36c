namespace FusedAttention.Serving;

/// <summary>Why a scheduler does not take a request on.</summary>
public enum RequestRefusal
{
    /// <summary>It does.</summary>
    None,

    /// <summary>As many requests wait as may: try again later.</summary>
    QueueFull,

    /// <summary>The whole pool could not hold it: no use in trying again.</summary>
    TooLong,

    /// <summary>The scheduler ends what it has and takes no more, or is disposed.</summary>
    Stopping,
}
