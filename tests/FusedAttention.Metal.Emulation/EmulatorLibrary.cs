namespace FusedAttention.Metal.Emulation;

/// <summary>A library's text, compiled: one executable that runs launches of its kernels.</summary>
internal sealed class EmulatorLibrary(string folder, KernelSignature[] kernels, DeclaredConstant[] constants, KernelModule module)
{
    private readonly Lazy<Dictionary<string, int>> _threadgroupBytes = new(() => Describe(Path.Combine(folder, EmulatorBuild.Executable)));

    public string Executable { get; } = Path.Combine(folder, EmulatorBuild.Executable);

    /// <summary>Everything that was built, intermediate texts included.</summary>
    public string Folder { get; } = folder;

    public KernelSignature[] Kernels { get; } = kernels;

    public DeclaredConstant[] Constants { get; } = constants;

    public KernelModule Module { get; } = module;

    public KernelSignature Kernel(string name) => Kernels.FirstOrDefault(kernel => string.Equals(kernel.Name, name, StringComparison.Ordinal))
        ?? throw new MetalEmulationException($"The library has no kernel {name}; it has {string.Join(", ", Kernels.Select(kernel => kernel.Name))}.");

    /// <summary>Bytes of threadgroup memory that a kernel declares.</summary>
    public int ThreadgroupBytes(string kernel) => _threadgroupBytes.Value.GetValueOrDefault(Kernel(kernel).Name);

    /// <summary>Bytes of each thread's arrays that a kernel's body declares, or that of a function it consists of: the largest.</summary>
    public int PrivateBytes(string kernel) => Module.Reach(Kernel(kernel).Name).Max(function => PrivateArrays.BytesOf(Module.Text, function));

    private static Dictionary<string, int> Describe(string executable)
    {
        (int exitCode, string output) = EmulatorToolchain.Run(executable, folder: null, ["--describe"]);
        if (exitCode != 0) throw new MetalEmulationException($"{executable} --describe ended with exit code {exitCode}: {output}");
        return output.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(' '))
            // Each array begins at a multiple of 16 at the worst.
            .GroupBy(fields => fields[0], StringComparer.Ordinal)
            .ToDictionary(group => group.Key, group => group.Sum(fields => (int.Parse(fields[2], System.Globalization.CultureInfo.InvariantCulture) + 15) / 16 * 16), StringComparer.Ordinal);
    }
}
