using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Memory;

/// <summary>A stream whose memory is pinned memory of the host: what tables are written to, before the device copies them.</summary>
internal sealed class PinnedQueue(ICudaRuntime runtime, ICudaStream stream) : IDeviceQueue
{
    public long Completed => stream.Completed;

    public DeviceMemory Allocate(long bytes) => runtime.AllocatePinned(bytes);
}
