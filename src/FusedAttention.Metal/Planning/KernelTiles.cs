using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Metal.Planning;

/// <summary>The kernels of one call with their tiles: <see cref="TileTable"/> is asked here, once, and everything behind it asks this.</summary>
/// <param name="Prefill">The tile of the prefill kernel; null if it does not take the call.</param>
/// <param name="Decode">The tile of the decode kernel; null if it does not take the call.</param>
/// <param name="Choice">Which kernel sequences get.</param>
/// <param name="SubmissionBudget">What a command buffer may cost.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct KernelTiles(PrefillTile? Prefill, DecodeTile? Decode, KernelChoice Choice, double SubmissionBudget) : ITileTable
{
    public int MostFewRows => TileTable.MostFewRows;

    public int MinSplitKeys => TileTable.MinSplitKeys;

    public int MostSplits => TileTable.MostSplits;

    public bool MergesInKernel => false;

    /// <summary>What the offset of a buffer argument is a multiple of on every device.</summary>
    public int TableBoundary => 256;

    public int MergeRows => TileTable.PlainSimdgroups;

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="budget">What a command buffer may cost: <see cref="CommandBufferBudget"/>.</param>
    /// <param name="forced">The only kernel to use; null for the choice that calls get.</param>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions or element types, the call's numbers leave <see cref="FloatRange"/>, or its functions have captured too much; the message has the numbers.</exception>
    public static KernelTiles Of(AttentionProblem problem, MetalDeviceDescription device, double budget, AttentionKernel? forced = null)
    {
        if (problem.KeyDim > TileTable.MaxPlainDim || problem.ValueDim > TileTable.MaxPlainDim)
        {
            throw new NotSupportedException($"The Metal kernels take dimensions up to {TileTable.MaxPlainDim}; the key dimension is {problem.KeyDim} and the value dimension {problem.ValueDim}.");
        }

        FloatRange.Require(problem, "Metal");
        FunctionCaptures.Require(problem, "Metal");
        ArgumentChecks.EightBits(problem, "Metal");
        if (problem.KeyValueType.IsEightBit() && FunctionCaptures.TablesOf(problem) > BufferSlot.MostTablesOfCodes)
        {
            throw new NotSupportedException(
                $"Over keys of {problem.KeyValueType} the Metal kernels take functions with up to {BufferSlot.MostTablesOfCodes} tables; the call's have {FunctionCaptures.TablesOf(problem)}: {problem.MaskFunction}.");
        }

        bool isWithinReach = IsWithinReach(problem);
        PrefillTile? prefill = device.HasKnownLaneMap && isWithinReach ? TileTable.Prefill(problem.KeyDim, problem.ValueDim, problem.QueryType, problem.KeyValueType) : null;
        DecodeTile? decode = isWithinReach ? TileTable.Decode(problem.KeyDim, problem.ValueDim, problem.KeyValueType) : null;
        return new(prefill, decode, KernelChoice.Of(problem, prefill is not null, decode is not null, forced), budget);
    }

    /// <summary>Whether keys, values and their scales lie as near to each other as prefill and decode need them.</summary>
    public static bool IsWithinReach(AttentionProblem problem) =>
        Math.Max(Math.Max(problem.KeyTokenStride, problem.ValueTokenStride), Math.Max(problem.KeyScale.TokenStride, problem.ValueScale.TokenStride)) <= TileTable.MostTokenStride;

    public int ItemRows(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => Prefill.GetValueOrDefault().Rows,
        AttentionKernel.Decode => Decode.GetValueOrDefault().ItemRows,
        _ => TileTable.PlainItemRows,
    };

    /// <summary>
    /// A guess on the safe side, for bounding command buffers only: decode waits for memory and the plain kernel for its sums over lanes, where matrices run near the peak.
    /// </summary>
    public double CostOfWork(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => 1,
        AttentionKernel.Decode => 4,
        _ => 10,
    };

    /// <summary>Simdgroups of a threadgroup.</summary>
    public int Simdgroups(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => Prefill.GetValueOrDefault().Simdgroups,
        AttentionKernel.Decode => Decode.GetValueOrDefault().Simdgroups,
        _ => TileTable.PlainSimdgroups,
    };
}
