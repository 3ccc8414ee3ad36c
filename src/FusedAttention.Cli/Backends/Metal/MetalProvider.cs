using FusedAttention.Checking.Measurement;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;

namespace FusedAttention.Cli.Backends.Metal;

/// <summary>Apple GPUs.</summary>
internal sealed class MetalProvider : IBackendProvider
{
    private readonly Lazy<(IReadOnlyList<BackendDevice> Devices, string? Reason)> _found;

    private readonly Lazy<IReadOnlyList<BackendDevice>> _any;

    /// <summary>The devices of this machine.</summary>
    public MetalProvider()
    {
        _found = new(() => MetalDevice.IsSupported ? (Of(MetalDevice.All), null) : ([], MetalDevice.UnsupportedReason));
        _any = new(() => Devices.Count > 0 ? Devices : Of(MetalDevice.FindAny().Devices));
    }

    /// <summary>A machine with these devices: for tests, which have emulated ones.</summary>
    public MetalProvider(params MetalDevice[] devices)
    {
        _found = new(() => (Of(devices), null));
        _any = new(() => Devices);
    }

    public IReadOnlyList<BackendDevice> AnyDevices => _any.Value;

    public string Name => MetalBackend.BackendName;

    public string Title => "Metal";

    public string? Hardware => "an Apple GPU";

    public bool IsHost => false;

    public IReadOnlyList<BackendDevice> Devices => _found.Value.Devices;

    public string? WhyNone => _found.Value.Reason;

    public IReadOnlyList<TimedShape> TimedShapes => MetalShapes.All;

    public string? TargetNote => MetalShapes.TargetNote;

    public IKernelSource? Source { get; } = new MetalSource();

    public BackendInfo Info() => new(WhyNone is string reason ? $"not available: {reason}" : "available")
    {
        Devices = Devices.Count == 0 ? null
            : new(["Metal device", "Apple GPU family", "largest tensor", "simdgroup matrices"], [.. Devices.Select(static found => Row(((MetalBackend)found.Backend).Device))]),
    };

    public bool IsDeviceFailure(Exception exception) => exception is MetalException;

    private BackendDevice[] Of(IReadOnlyList<MetalDevice> devices) => [.. devices.Select(device => new BackendDevice(this, new MetalBackend(device)) { Checks = [new LaneMapCheck(device)], Compile = () => Compile(device) })];

    private static IEnumerable<CompiledKernel> Compile(MetalDevice device) => KernelCatalog.Libraries().Select(function =>
    {
        try
        {
            KernelResources resources = device.Compile(function);
            return new CompiledKernel(function.LibraryName, $"{resources.MaxThreads} threads a threadgroup at most, {resources.ThreadgroupBytes} bytes of threadgroup memory", IsCompiled: true);
        }
        catch (MetalException e)
        {
            return new CompiledKernel(function.LibraryName, e.Message, IsCompiled: false);
        }
    });

    private static string[] Row(MetalDevice device) => [device.Name, device.AppleFamily.ToString(), Units.Megabytes(device.MaxTensorBytes), LaneMap(device)];

    /// <summary>The self-test runs when a device's description is asked for the first time.</summary>
    private static string LaneMap(MetalDevice device)
    {
        try
        {
            return device.Description.HasKnownLaneMap ? "as expected" : "differ, prefill is not used; verify --backend metal shows how";
        }
        catch (MetalException e)
        {
            return $"the self-test failed: {e.Message.ReplaceLineEndings(" ")}";
        }
    }
}
