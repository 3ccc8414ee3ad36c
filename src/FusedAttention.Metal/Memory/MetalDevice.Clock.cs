using FusedAttention.Metal.Launching;

namespace FusedAttention;

/// <content>How long the device has worked.</content>
public sealed unsafe partial class MetalDevice
{
    /// <summary>Seconds that all work known to have ended took on the GPU, waiting in the queue not included; null where the runtime does not know.</summary>
    internal double? GpuSeconds => (_runtime as IGpuClock)?.WorkedSeconds;
}
