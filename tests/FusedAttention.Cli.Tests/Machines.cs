using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Backends.Cpu;
using FusedAttention.Cli.Backends.Cuda;
using FusedAttention.Cli.Backends.Metal;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using Xunit;

namespace FusedAttention.Cli.Tests;

/// <summary>Devices for the tool where there is none.</summary>
internal static class Machines
{
    /// <summary>A device that computes nothing: outputs stay as they were.</summary>
    public static RecordingRuntime Idle(bool hasKnownLaneMap = true) => new() { Device = new("Idle M4", AppleFamily: 9, MaxThreadgroupMemory: 32768, MaxBufferLength: 1 << 27, hasKnownLaneMap) };

    public static BackendCatalog With(params IMetalRuntime[] runtimes)
        => new(new CpuProvider(), new MetalProvider([.. runtimes.Select(static runtime => new MetalDevice(runtime))]));

    /// <summary>CUDA devices that compute nothing.</summary>
    public static BackendCatalog With(params Cuda.Tests.Fakes.RecordingRuntime[] runtimes)
        => new(new CpuProvider(), new CudaProvider([.. runtimes.Select(static runtime => new CudaDevice(runtime))]), new MetalProvider());

    /// <summary>The emulator, in one order of its threads: other tests compare orders.</summary>
    public static EmulatedRuntime Emulator()
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        return new() { Orders = ["random"] };
    }
}
