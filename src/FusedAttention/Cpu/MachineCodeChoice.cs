using FusedAttention.Cpu.MachineCode;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;

namespace FusedAttention.Cpu;

/// <summary>Whether an instruction set's kernels get machine code, and in words why or why not.</summary>
/// <param name="Narrow">The kernels for elements of 16 and 8 bits; null if there are none.</param>
/// <param name="Reason">For <c>Explain</c> and the tool.</param>
internal sealed record MachineCodeChoice(NarrowKernels? Narrow, string Reason)
{
    /// <summary>The tile products for bfloat16; null if there are none.</summary>
    public TileKernelCache? Tiles { get; init; }

    /// <summary>Why there are none.</summary>
    public string TilesRefusal { get; init; } = Reason;

    /// <summary>The environment variable that says what <see cref="CpuMachineCode.Auto"/> means; a name of that enumeration.</summary>
    public const string EnvironmentVariable = "FUSEDATTENTION_MACHINE_CODE";

    private static readonly Lazy<TileKernelCache> TilesOfAvx512 = new(static () => TileKernelCache.Of(CodeHost.Current, PrefillTiles.Keys));
    private static readonly Lazy<NarrowKernels> Narrow256 = new(static () => new(CodeHost.Current, 256));
    private static readonly Lazy<NarrowKernels> Narrow512 = new(static () => new(CodeHost.Current, 512));

    /// <exception cref="PlatformNotSupportedException">It is required, and not to be had; or the environment variable has a name that means nothing.</exception>
    public static MachineCodeChoice Of(CpuInstructionSet instructionSet, CpuMachineCode asked) => Of(instructionSet, asked, Environment.GetEnvironmentVariable(EnvironmentVariable), static () => CodeHost.Current);

    /// <summary>The same where the environment and the host are given.</summary>
    public static MachineCodeChoice Of(CpuInstructionSet instructionSet, CpuMachineCode asked, string? variable, Func<CodeHost> host)
    {
        if (instructionSet is not (CpuInstructionSet.Avx2 or CpuInstructionSet.Avx512)) return new(null, $"{instructionSet} has none");
        string by = $"{nameof(CpuExecution)}.{nameof(CpuExecution.MachineCode)}";
        if (asked == CpuMachineCode.Auto && !string.IsNullOrWhiteSpace(variable))
        {
            if (!Enum.TryParse(variable, ignoreCase: true, out asked) || !Enum.IsDefined(asked))
            {
                throw new PlatformNotSupportedException($"{EnvironmentVariable} is '{variable}'; expected one of {string.Join(", ", Enum.GetNames<CpuMachineCode>())}.");
            }

            by = EnvironmentVariable;
        }

        if (asked == CpuMachineCode.Off) return new(null, $"off by {by}");
        CodeHost code = host();
        string? lacking = !code.IsAvailable ? code.State
            : !code.Features.HasF16C ? "this processor has no F16C"
            : instructionSet == CpuInstructionSet.Avx2 && CallingConvention.Current.LowVectors < 16 ? "the calling convention of this system keeps vector registers that AVX2 kernels need"
            : null;
        if (lacking is null)
        {
            string? lackingTiles = instructionSet == CpuInstructionSet.Avx512 ? code.TilesRefusal : "tiles come with AVX-512";
            return new((instructionSet == CpuInstructionSet.Avx2 ? Narrow256 : Narrow512).Value, $"binary16 by vcvtph2ps ({code.State})")
            {
                Tiles = lackingTiles is null ? TilesOfAvx512.Value : null, TilesRefusal = lackingTiles ?? "",
            };
        }

        return asked == CpuMachineCode.Required
            ? throw new PlatformNotSupportedException($"{by} requires machine code for {instructionSet}, which cannot run here: {lacking}.")
            : new(null, lacking);
    }
}
