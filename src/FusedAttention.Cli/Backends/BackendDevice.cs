using FusedAttention.Checking.Backends;
using FusedAttention.Checking.Checks;

namespace FusedAttention.Cli.Backends;

/// <summary>What a device's compiler made of a kernel.</summary>
/// <param name="Name">The kernel, and what it was made for.</param>
/// <param name="Result">What it takes, or what the compiler said.</param>
/// <param name="IsCompiled">Whether there is machine code.</param>
internal readonly record struct CompiledKernel(string Name, string Result, bool IsCompiled);

/// <summary>Something to run on.</summary>
/// <param name="Provider">Whose it is.</param>
/// <param name="Backend">Where its calls are made.</param>
internal sealed record BackendDevice(IBackendProvider Provider, Backend Backend)
{
    /// <summary>Compiles kernels of every kind, one after the other as they are taken, and runs none; null where nothing is compiled on a device.</summary>
    public Func<IEnumerable<CompiledKernel>>? Compile { get; init; }

    /// <summary>Checks of what only this backend has, beside those that all have in common.</summary>
    public IReadOnlyList<Check> Checks { get; init; } = [];
}
