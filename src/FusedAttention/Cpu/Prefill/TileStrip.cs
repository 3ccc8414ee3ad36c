using FusedAttention.Cpu.MachineCode.Kernels;

namespace FusedAttention.Cpu.Prefill;

/// <summary>The rows that tile products take at once, in place of a register tile: its products are machine code's.</summary>
internal readonly unsafe struct TileStrip : IRegisterTile
{
    public static int Rows => TileKernels.Rows;

    public static void Scores(float* q, float* k, float* s, int dim, bool accumulate) => throw new NotSupportedException("Tile products are called by the strip.");

    public static void Accumulate(float* p, float* v, float* o, nint outputStride, int keys) => throw new NotSupportedException("Tile products are called by the strip.");
}
