using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Backends.Cpu;
using FusedAttention.Cli.Backends.Cuda;
using FusedAttention.Cli.Backends.Metal;

namespace FusedAttention.Cli;

/// <summary>The one list of backends. A new one is a folder under <c>Backends/</c> and a line here.</summary>
internal static class RegisteredBackends
{
    public static BackendCatalog OfThisMachine { get; } = new(
        new CpuProvider(),
        new CudaProvider(),
        new MetalProvider());
}
