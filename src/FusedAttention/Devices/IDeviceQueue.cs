namespace FusedAttention.Devices;

/// <summary>A device's queue as its memory sees it: submissions have numbers, counted from 1, and end in their order.</summary>
internal interface IDeviceQueue
{
    /// <summary>The number of the last submission known to have ended.</summary>
    long Completed { get; }

    /// <summary>Fresh memory; contents undefined.</summary>
    DeviceMemory Allocate(long bytes);
}
