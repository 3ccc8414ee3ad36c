using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Branches and ends.</summary>
internal static unsafe class FlowOperations
{
    public static readonly Handler Branch = new(&RunBranch), UniformBranch = new(&RunUniformBranch), Exit = new(&RunExit), Trap = new(&RunTrap), Nothing = new(&RunNothing);

    private static void RunBranch(Warp warp, Instruction* i, uint mask) => warp.Branch(mask, i->Number);

    private static void RunUniformBranch(Warp warp, Instruction* i, uint mask)
    {
        if (mask != warp.Active) throw warp.Fail(i, -1, $"says that all lanes take it or none, and 0x{mask:x8} of 0x{warp.Active:x8} do");
        warp.Branch(mask, i->Number);
    }

    private static void RunExit(Warp warp, Instruction* i, uint mask)
    {
        warp.Block.Events++;
        warp.End(mask);
    }

    private static void RunTrap(Warp warp, Instruction* i, uint mask) => throw warp.Fail(i, System.Numerics.BitOperations.TrailingZeroCount(mask), "ends the kernel");

    private static void RunNothing(Warp warp, Instruction* i, uint mask)
    {
    }
}
