using FusedAttention.Cli.Calls;

namespace FusedAttention.Cli.Backends;

/// <summary>The backends of this machine. Nothing is asked of the system before a command needs to know.</summary>
internal sealed class BackendCatalog
{
    private readonly Lazy<(IReadOnlyList<MetalBackend> Devices, string? Reason)> _metal;

    private BackendCatalog(Func<(IReadOnlyList<MetalBackend> Devices, string? Reason)> findMetal) => _metal = new(findMetal);

    public static BackendCatalog OfThisMachine { get; } = new(static () => MetalDevice.IsSupported ? (Backends(MetalDevice.All), null) : ([], MetalDevice.UnsupportedReason));

    /// <summary>Metal devices, the preferred one first.</summary>
    public IReadOnlyList<MetalBackend> Metal => _metal.Value.Devices;

    /// <summary>Why there is no Metal device; null if there is one.</summary>
    public string? WhyNoMetal => _metal.Value.Reason;

    /// <summary>A machine with these devices: for tests, which have emulated ones.</summary>
    public static BackendCatalog Of(params MetalDevice[] devices) => new(() => (Backends(devices), null));

    /// <summary>The backend that a command line names.</summary>
    /// <param name="name">cpu, metal or auto.</param>
    /// <param name="cpuOption">An option that was given and speaks of the CPU's kernels; null for none.</param>
    /// <param name="say">Told what auto chose, and why.</param>
    /// <exception cref="UsageException">It is not there, or does not go with the option.</exception>
    public Backend Choose(string name, string? cpuOption, Action<string> say)
    {
        switch (name.ToUpperInvariant())
        {
            case "CPU":
                return Backend.Cpu;
            case "METAL" when cpuOption is not null:
                throw new UsageException($"{cpuOption} speaks of the CPU's kernels and does not go with --backend metal.");
            case "METAL":
                return Metal is [MetalBackend first, ..] ? first : throw new UsageException($"--backend metal: Metal is not available here: {WhyNoMetal}");
            case "AUTO":
                (Backend chosen, string reason) = Metal is not [MetalBackend preferred, ..] ? (Backend.Cpu, $"Metal is not available here: {WhyNoMetal}")
                    : cpuOption is not null ? (Backend.Cpu, $"{cpuOption} speaks of the CPU's kernels")
                    : ((Backend)preferred, "this machine has a device that its kernels run on");
                say($"--backend auto: {chosen.Title}, because {reason.TrimEnd('.')}.");
                return chosen;
            default:
                throw new UsageException($"--backend '{name}' is not there: this build has cpu, metal, and auto, which says what it chose.");
        }
    }

    private static MetalBackend[] Backends(IReadOnlyList<MetalDevice> devices) => [.. devices.Select(static device => new MetalBackend(device))];
}
