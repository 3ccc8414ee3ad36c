using System.Diagnostics;
using FusedAttention.Cuda.Emulation.Programs;

namespace FusedAttention.Cuda.Emulation.Machine;

/// <summary>Registers that the machine fills. Clocks count instructions, and nanoseconds of the process.</summary>
internal static unsafe class SpecialRegisters
{
    private static readonly string[] Names =
    [
        "%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z", "%nctaid.x", "%nctaid.y", "%nctaid.z", "%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid",
        "%clock", "%clock64", "%globaltimer", "%lanemask_eq", "%lanemask_lt", "%lanemask_le", "%lanemask_gt", "%lanemask_ge", "%dynamic_smem_size", "%cluster_ctaid.x", "%cluster_ctarank", "%cluster_nctarank",
    ];

    public static readonly Handler Read = new(&Run), ReadWide = new(&RunWide);

    /// <summary>The number of a special register, or -1.</summary>
    public static int NumberOf(string name) => Array.IndexOf(Names, name);

    private static void Run(Warp warp, Instruction* i, uint mask)
    {
        uint* d = warp.Row(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = (uint)Value(warp, i->Number, lane);
    }

    private static void RunWide(Warp warp, Instruction* i, uint mask)
    {
        ulong* d = warp.WideRow(i->D);
        for (int lane = 0; lane < Lanes.Count; lane++)
            if ((mask >> lane & 1) != 0) d[lane] = Value(warp, i->Number, lane);
    }

    private static ulong Value(Warp warp, int number, int lane)
    {
        BlockState block = warp.Block;
        LaunchState launch = block.Launch;
        return Names[number] switch
        {
            "%tid.x" => (ulong)((warp.Number * Lanes.Count) + lane),
            "%tid.y" or "%tid.z" => 0,
            "%ntid.x" => (ulong)launch.Threads,
            "%ntid.y" or "%ntid.z" => 1,
            "%ctaid.x" => (ulong)block.Index.X,
            "%ctaid.y" => (ulong)block.Index.Y,
            "%ctaid.z" => (ulong)block.Index.Z,
            "%nctaid.x" => (ulong)launch.Grid.X,
            "%nctaid.y" => (ulong)launch.Grid.Y,
            "%nctaid.z" => (ulong)launch.Grid.Z,
            "%laneid" => (ulong)lane,
            "%warpid" => (ulong)warp.Number,
            "%nwarpid" => (ulong)((launch.Threads + Lanes.Count - 1) / Lanes.Count),
            "%clock" or "%clock64" => (ulong)block.Executed,
            "%globaltimer" => (ulong)(Stopwatch.GetTimestamp() * (1_000_000_000.0 / Stopwatch.Frequency)),
            "%lanemask_eq" => 1u << lane,
            "%lanemask_lt" => (1u << lane) - 1,
            "%lanemask_le" => uint.MaxValue >> (31 - lane),
            "%lanemask_gt" => ~(uint.MaxValue >> (31 - lane)),
            "%lanemask_ge" => uint.MaxValue << lane,
            "%dynamic_smem_size" => (ulong)(launch.SharedBytes - launch.Program.SharedBytes),
            "%nsmid" or "%cluster_nctarank" => 1,
            _ => 0,
        };
    }
}
