using FusedAttention.Checking.Measurement;

namespace FusedAttention.Cli.Backends.Cuda;

/// <summary>NVIDIA GPUs.</summary>
internal sealed class CudaProvider : IBackendProvider
{
    private readonly Lazy<(IReadOnlyList<BackendDevice> Devices, string? Reason)> _found;

    /// <summary>The devices of this machine.</summary>
    public CudaProvider() => _found = new(() => CudaDevice.IsSupported ? (Of(CudaDevice.All), null) : ([], CudaDevice.UnsupportedReason));

    /// <summary>A machine with these devices: for tests, which have recorded ones.</summary>
    public CudaProvider(params CudaDevice[] devices) => _found = new(() => (Of(devices), null));

    /// <summary>A machine without: for tests.</summary>
    public CudaProvider(string reason) => _found = new(() => ([], reason));

    public string Name => CudaBackend.BackendName;

    public string Title => "CUDA";

    public string? Hardware => "an NVIDIA GPU";

    public bool IsHost => false;

    public IReadOnlyList<BackendDevice> Devices => _found.Value.Devices;

    public string? WhyNone => _found.Value.Reason;

    public IReadOnlyList<TimedShape> TimedShapes => CudaShapes.Of(hasWarpgroups: Devices.Any(static device => ((CudaBackend)device.Backend).HasWarpgroups));

    public string? TargetNote => CudaShapes.TargetNote;

    public BackendInfo Info() => new(WhyNone is string reason ? $"not available: {reason}" : "available")
    {
        Devices = Devices.Count == 0 ? null
            : new(["CUDA device", "compute capability", "multiprocessors", "memory", "driver"], [.. Devices.Select(static found => Row(((CudaBackend)found.Backend).Device))]),
    };

    public bool IsDeviceFailure(Exception exception) => exception is CudaException;

    private BackendDevice[] Of(IReadOnlyList<CudaDevice> devices) => [.. devices.Select(device => new BackendDevice(this, new CudaBackend(device)))];

    private static string[] Row(CudaDevice device) =>
        [device.Name, device.ComputeCapability.ToString(), device.Multiprocessors.ToString(), Units.Megabytes(device.MemoryBytes), NvidiaDriver.Of(device)];
}
