using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Prefill;

namespace FusedAttention.Cpu;

/// <summary>Which kernels run: one ordered list, best first.</summary>
internal static class KernelSelector
{
    /// <summary>The environment variable that forces what <see cref="CpuInstructionSet.Auto"/> means; a name of that enumeration.</summary>
    public const string EnvironmentVariable = "FUSEDATTENTION_CPU";

    // Arm has 32 vector registers, x86 below AVX-512 has 16: the same vectors, another register tile.
    private static readonly CpuKernels?[] Kernels =
    [
        Create<Avx512Simd, Vector512<float>, RegisterTile14x2<Avx512Simd, Vector512<float>>>(CpuInstructionSet.Avx512),
        Create<Avx2Simd, Vector256<float>, RegisterTile6x2<Avx2Simd, Vector256<float>>>(CpuInstructionSet.Avx2),
        AdvSimd.Arm64.IsSupported
            ? Create<Vector128Simd, Vector128<float>, RegisterTile14x2<Vector128Simd, Vector128<float>>>(CpuInstructionSet.Vector128)
            : Create<Vector128Simd, Vector128<float>, RegisterTile6x2<Vector128Simd, Vector128<float>>>(CpuInstructionSet.Vector128),
        Create<ScalarSimd, float, RegisterTile6x2<ScalarSimd, float>>(CpuInstructionSet.Scalar),
    ];

    private const int MachineCodes = (int)CpuMachineCode.Required + 1;

    // By instruction set and machine code as calls ask for them, so that a call finds its kernels without making any.
    private static readonly CpuKernels?[] Selected = new CpuKernels?[((int)CpuInstructionSet.Avx512 + 1) * MachineCodes];

    private static CpuKernels? _default;

    public static bool IsSupported(CpuInstructionSet instructionSet) => instructionSet switch
    {
        CpuInstructionSet.Auto or CpuInstructionSet.Scalar => true,
        CpuInstructionSet.Vector128 => Vector128.IsHardwareAccelerated,
        CpuInstructionSet.Avx2 => Avx2.IsSupported && Fma.IsSupported,
        CpuInstructionSet.Avx512 => Avx512F.IsSupported && Avx512BW.IsSupported && Avx512DQ.IsSupported && Avx512F.VL.IsSupported,
        _ => false,
    };

    /// <summary>The kernels of a call, with machine code where it may have some.</summary>
    /// <exception cref="PlatformNotSupportedException">This machine lacks the instruction set, or refuses machine code that is required.</exception>
    /// <exception cref="ArgumentException">One of the two is not a member of its enumeration.</exception>
    public static CpuKernels Select(CpuInstructionSet instructionSet, CpuMachineCode machineCode)
    {
        CpuKernels plain = Select(instructionSet);
        if ((uint)machineCode >= MachineCodes) throw new ArgumentException($"MachineCode is {(int)machineCode}, which is no member of {nameof(CpuMachineCode)}.", nameof(machineCode));
        ref CpuKernels? selected = ref Selected[((int)instructionSet * MachineCodes) + (int)machineCode];
        return selected ??= MachineCodeChoice.Of(plain.InstructionSet, machineCode) is { Narrow: var narrow, Tiles: var tiles } && (narrow, tiles) != default ? plain.With(narrow, tiles) : plain;
    }

    /// <summary>Has calls that may have machine code of an instruction set take kernels that are given: for tests of what this machine does not have.</summary>
    internal static void Preset(CpuInstructionSet instructionSet, CpuKernels kernels)
    {
        foreach (CpuInstructionSet asked in (CpuInstructionSet[])[instructionSet, CpuInstructionSet.Auto])
        {
            if (Select(asked).InstructionSet != instructionSet) continue;
            Selected[((int)asked * MachineCodes) + (int)CpuMachineCode.Auto] = kernels;
            Selected[((int)asked * MachineCodes) + (int)CpuMachineCode.Required] = kernels;
        }
    }

    /// <summary>The kernels of an instruction set, without machine code.</summary>
    /// <exception cref="PlatformNotSupportedException">This machine lacks the instruction set.</exception>
    /// <exception cref="ArgumentException">It is not a member of the enumeration.</exception>
    public static CpuKernels Select(CpuInstructionSet instructionSet)
    {
        if (instructionSet == CpuInstructionSet.Auto) return _default ??= ChooseDefault();
        if (!Enum.IsDefined(instructionSet))
        {
            throw new ArgumentException($"InstructionSet is {(int)instructionSet}, which is no member of {nameof(CpuInstructionSet)}.", nameof(instructionSet));
        }

        return Find(instructionSet) ?? throw new PlatformNotSupportedException(
            $"InstructionSet {instructionSet} is not available here; the best available one is {Best().InstructionSet}.");
    }

    private static CpuKernels<TS, TV, TTile>? Create<TS, TV, TTile>(CpuInstructionSet instructionSet)
        where TS : struct, ISimd<TV>
        where TV : unmanaged
        where TTile : struct, IRegisterTile
        => IsSupported(instructionSet) ? new CpuKernels<TS, TV, TTile>(instructionSet) : null;

    private static CpuKernels? Find(CpuInstructionSet instructionSet) => Array.Find(Kernels, k => k?.InstructionSet == instructionSet);

    private static CpuKernels Best() => Array.Find(Kernels, k => k is not null)!;

    private static CpuKernels ChooseDefault()
    {
        string? forced = Environment.GetEnvironmentVariable(EnvironmentVariable);
        if (string.IsNullOrWhiteSpace(forced)) return Best();
        if (!Enum.TryParse(forced, ignoreCase: true, out CpuInstructionSet named) || !Enum.IsDefined(named))
        {
            throw new PlatformNotSupportedException($"{EnvironmentVariable} is '{forced}'; expected one of {string.Join(", ", Enum.GetNames<CpuInstructionSet>())}.");
        }

        return named == CpuInstructionSet.Auto ? Best() : Find(named) ?? throw new PlatformNotSupportedException(
            $"{EnvironmentVariable} asks for {named}, which is not available here; the best available one is {Best().InstructionSet}.");
    }
}
