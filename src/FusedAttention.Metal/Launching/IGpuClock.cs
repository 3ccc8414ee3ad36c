namespace FusedAttention.Metal.Launching;

/// <summary>A runtime that knows how long its device has worked.</summary>
internal interface IGpuClock
{
    /// <summary>Seconds from start to end of every submission that is known to have ended, all together, by the device's own clock.</summary>
    double WorkedSeconds { get; }
}
