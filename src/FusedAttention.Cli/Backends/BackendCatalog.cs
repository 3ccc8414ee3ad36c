using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Backends;

/// <summary>The backends of a machine, the processor among them.</summary>
internal sealed class BackendCatalog(params IBackendProvider[] providers)
{
    private const string Auto = "auto";

    /// <summary>In the order in which they are shown, and in which <c>auto</c> looks for a device.</summary>
    public IReadOnlyList<IBackendProvider> Providers { get; } = providers;

    /// <summary>The processor.</summary>
    public IBackendProvider Host { get; } = providers.Single(static provider => provider.IsHost);

    /// <summary>What <c>--backend</c> may be.</summary>
    public string Choices
    {
        get
        {
            string names = string.Join(", ", Providers.Select(static provider => provider.Hardware is string hardware ? $"{provider.Name} ({hardware})" : provider.Name));
            return $"{names}, or {Auto}, which takes {string.Join(" or ", Others.Select(static provider => provider.Name))} where it can and says so";
        }
    }

    private IEnumerable<IBackendProvider> Others => Providers.Where(static provider => !provider.IsHost);

    /// <summary>The device that a command line names.</summary>
    /// <param name="name">A backend, or auto.</param>
    /// <param name="hostOption">An option that was given and speaks of the processor's kernels; null for none.</param>
    /// <param name="say">Told what auto chose, and why.</param>
    /// <param name="takesAny">Whether a device will do that the kernels were not made for.</param>
    /// <exception cref="UsageException">It is not there, or does not go with the option.</exception>
    public BackendDevice Choose(string name, string? hostOption, Action<string> say, bool takesAny = false)
    {
        string? about = hostOption is null ? null : $"{hostOption} speaks of the {Host.Title}'s kernels";
        if (name.Equals(Auto, StringComparison.OrdinalIgnoreCase)) return ChooseAuto(about, say);
        IBackendProvider? provider = Providers.FirstOrDefault(provider => name.Equals(provider.Name, StringComparison.OrdinalIgnoreCase));
        if (provider is null) throw new UsageException($"--backend '{name}' is not there: this build has {string.Join(", ", Providers.Select(static p => p.Name))}, and {Auto}, which says what it chose.");
        if (about is not null && !provider.IsHost) throw new UsageException($"{about} and does not go with --backend {provider.Name}.");
        return (takesAny ? provider.AnyDevices : provider.Devices) is [BackendDevice first, ..] ? first : throw new UsageException($"--backend {provider.Name}: {NotAvailable(provider)}");
    }

    /// <summary>Whether an exception is some backend's own word about a device that refused or failed.</summary>
    public bool IsDeviceFailure(Exception exception) => Providers.Any(provider => provider.IsDeviceFailure(exception));

    private BackendDevice ChooseAuto(string? about, Action<string> say)
    {
        BackendDevice host = Host.Devices[0];
        (BackendDevice chosen, string reason) = Others.SelectMany(static provider => provider.Devices.Take(1)).FirstOrDefault() is not BackendDevice preferred
                ? (host, string.Join("; ", Others.Select(static provider => NotAvailable(provider).TrimEnd('.'))))
            : about is not null ? (host, about)
            : (preferred, "this machine has a device that its kernels run on");
        say($"--backend {Auto}: {chosen.Backend.Title}, because {reason}.");
        return chosen;
    }

    private static string NotAvailable(IBackendProvider provider) => $"{provider.Title} is not available here: {provider.WhyNone}";
}
