using System.Runtime.Intrinsics;
using FusedAttention.Cpu;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Prefill;

namespace FusedAttention.Testing;

/// <summary>AVX-512's kernels with tile products that <see cref="TileEmulator"/> runs: for machines that have AVX-512 and no tiles.</summary>
internal static class EmulatedTiles
{
    /// <summary>Set for test programs all of whose calls are to have them.</summary>
    public const string EnvironmentVariable = "FUSEDATTENTION_TEST_TILES";

    /// <summary>What explanations say where they run.</summary>
    public const string Reason = "bfloat16 by tiles of an emulator";

    public static TileKernelCache Products { get; } = new(Reason, static (keyDim, valueDim) => new TileEmulator(TileKernels.Emit(keyDim, valueDim, PrefillTiles.Keys)));

    /// <summary>The kernels with tile products, and none for binary16.</summary>
    public static CpuKernels With(TileKernelCache tiles) => new CpuKernels<Avx512Simd, Vector512<float>, RegisterTile14x2<Avx512Simd, Vector512<float>>>(CpuInstructionSet.Avx512, null, tiles);

    /// <summary>Has all calls of this process that take AVX-512 and may have machine code take them, if the environment says so.</summary>
    public static void UseIfAsked()
    {
        if (Environment.GetEnvironmentVariable(EnvironmentVariable) is null || !Variants.IsSupported(CpuInstructionSet.Avx512)) return;
        KernelSelector.Preset(CpuInstructionSet.Avx512, KernelSelector.Select(CpuInstructionSet.Avx512, CpuMachineCode.Auto).With(null, Products));
    }
}
