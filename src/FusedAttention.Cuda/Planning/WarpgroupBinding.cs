using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Planning;

/// <summary>A prefill by warpgroups on given memory: what its launch has beside the call's block.</summary>
internal static class WarpgroupBinding
{
    /// <summary>Words of memory that are zero between launches.</summary>
    public const int SchedulerWords = 2;

    /// <summary>Writes the end of the parameter; <see cref="SetScheduler"/> is for when the call has its stream.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="tile">The kernel's sizes.</param>
    /// <param name="items">Of the launch.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="blocks">Blocks of a paged cache.</param>
    /// <param name="maps">The device's maps of tensors.</param>
    /// <param name="parameters"><see cref="CallBlock.MostParameterBytes"/>.</param>
    public static void Write(
        AttentionProblem problem, in WarpgroupTile tile, int items, in CallMemory memory, int blocks, TensorMapCache maps, Span<byte> parameters)
    {
        WarpgroupMaps shapes = WarpgroupMaps.Of(problem, tile);
        ref WarpgroupBlock block = ref BlockOf(parameters);
        block = default;
        maps.Get(shapes.Query with { Address = AddressOf(memory.Query, shapes.QueryAxis, problem.QueryType) }, out block.QueryMap);
        maps.Get(OverBlocks(shapes.Key with { Address = AddressOf(memory.Key, shapes.KeyAxis, problem.KeyValueType) }, problem, blocks), out block.KeyMap);
        maps.Get(OverBlocks(shapes.Value with { Address = AddressOf(memory.Value, shapes.ValueAxis, problem.KeyValueType) }, problem, blocks), out block.ValueMap);
        block.Items = items;
        block.QueryRows = WarpgroupMaps.RowsOf(problem, tile);
        block.QueryBatches = shapes.QueryAxis.IsBatched ? 1 : 0;
        block.KeyBatches = shapes.KeyAxis.IsBatched ? 1 : 0;
        block.ValueBatches = shapes.ValueAxis.IsBatched ? 1 : 0;
        block.ValueTokens = (int)shapes.ValueAxis.Tokens;
    }

    /// <summary>With pages, keys or values of as many blocks as there are.</summary>
    public static TensorMapShape OverBlocks(in TensorMapShape shape, AttentionProblem problem, int blocks) => problem.BlockSize > 0 ? shape with { Length3 = Math.Max(blocks, 1) } : shape;

    /// <summary>Where a map begins.</summary>
    public static ulong AddressOf(MemoryPlace place, in TokenAxis axis, AttentionElementType type) => place.Address() + ((ulong)axis.Start * (ulong)type.Size());

    /// <summary>Says where the scheduler's <see cref="SchedulerWords"/> are.</summary>
    public static void SetScheduler(Span<byte> parameters, ulong scheduler) => BlockOf(parameters).Scheduler = scheduler;

    private static ref WarpgroupBlock BlockOf(Span<byte> parameters) => ref MemoryMarshal.AsRef<WarpgroupBlock>(parameters[WarpgroupBlock.Offset..]);
}
