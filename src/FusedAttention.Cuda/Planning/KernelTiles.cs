using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cuda.Planning;

/// <summary>The kernels of one call with their tiles: <see cref="TileTable"/> is asked here, once, and everything behind it asks this.</summary>
/// <param name="Prefill">The tile of the prefill kernel; null if it does not take the call.</param>
/// <param name="Warpgroups">The tile of the prefill kernel for warpgroups, which takes the place of the other one; null if the call goes to that.</param>
/// <param name="Refusal">Why it does, where it might have been otherwise.</param>
/// <param name="Decode">The tile of the decode kernel; null if it does not take the call.</param>
/// <param name="Choice">Which kernel sequences get.</param>
/// <param name="MostSplits">Splits that the plain kernel keeps long sequences to.</param>
/// <param name="Folding">How the decode kernel folds splits; null where sequences with few rows go to another.</param>
/// <param name="Group">Query heads of a key/value head: items of warpgroups are whole queries.</param>
[StructLayout(LayoutKind.Auto)]
internal readonly record struct KernelTiles(PrefillTile? Prefill, WarpgroupTile? Warpgroups, WarpgroupRefusal Refusal, DecodeTile? Decode, KernelChoice Choice, int MostSplits, SplitFolding? Folding, int Group) : ITileTable
{
    /// <summary>Why the decode kernel's warps copy themselves, where it might have been otherwise.</summary>
    public WarpgroupRefusal BoxRefusal { get; init; }

    /// <summary>Whether the kernels have long parameters, where the tables of most calls have room.</summary>
    public bool HasLongParameters { get; init; }

    public int MostFewRows => TileTable.MostFewRows;

    public int MinSplitKeys => TileTable.MinSplitKeys;

    public bool MergesInKernel => true;

    /// <summary>No launch merges.</summary>
    public int MergeRows => 1;

    /// <summary>The longest load of a kernel: tables that are inline have no byte to lose.</summary>
    public int TableBoundary => TileTable.VectorBytes;

    /// <summary>Nobody stops a long launch of a device that has no display.</summary>
    public double SubmissionBudget => double.PositiveInfinity;

    /// <param name="problem">The call; its pointers are not looked at.</param>
    /// <param name="device">Where it will run.</param>
    /// <param name="isAligned">Whether strides and beginnings are multiples of <see cref="TileTable.VectorElements"/>.</param>
    /// <param name="forced">The only kernel to use; null for the choice that calls get.</param>
    /// <param name="form">The form of the prefill where both take the call; null for the one that calls get.</param>
    /// <param name="items">What items of a decode take; null for what is fastest.</param>
    /// <param name="copies">The form of the decode where both take the call; null for the one that calls get.</param>
    /// <exception cref="NotSupportedException">No kernel takes these dimensions or heads, or the call's numbers leave <see cref="FloatRange"/>; the message has them.</exception>
    public static KernelTiles Of(AttentionProblem problem, CudaDeviceDescription device, bool isAligned, AttentionKernel? forced = null, PrefillForm? form = null, ItemKeys? items = null, DecodeCopies? copies = null)
    {
        if (problem.KeyDim > TileTable.MaxPlainDim || problem.ValueDim > TileTable.MaxPlainDim)
            throw new NotSupportedException($"The CUDA kernels take dimensions up to {TileTable.MaxPlainDim}; the key dimension is {problem.KeyDim} and the value dimension {problem.ValueDim}.");
        if (problem.KeyValueHeads > TileTable.MostKeyValueHeads)
            throw new NotSupportedException($"The CUDA kernels take up to {TileTable.MostKeyValueHeads} key/value heads; the call has {problem.KeyValueHeads}.");
        FloatRange.Require(problem, "CUDA");
        FunctionCaptures.Require(problem, "CUDA");
        ArgumentChecks.EightBits(problem, "CUDA");
        bool hasVectors = isAligned && device.Major >= TileTable.FirstMatrixMajor;
        bool hasMatrices = hasVectors && TileTable.HasMatrixTypes(problem), hasEightBits = hasVectors && TileTable.HasEightBitTypes(problem);
        CallFeatures features = KernelTraits.Of(problem, isAligned).Features;
        PrefillTile? prefill = hasMatrices || hasEightBits ? TileTable.Prefill(problem.KeyDim, problem.ValueDim, device, features, problem.KeyValueType.Size(), problem.ScoreFunction?.Graph.Form, problem.Group) : null;
        DecodeTile? decode = hasMatrices || hasEightBits ? TileTable.Decode(problem.KeyDim, problem.ValueDim, device, problem.KeyValueType.Size(), features) : null;
        WarpgroupRefusal refusal = WarpgroupRefusal.None, boxRefusal = WarpgroupRefusal.None;
        if (decode is not null && (copies ?? DecodeCopiesForms.Default) == DecodeCopies.Boxes) decode = BoxesOf(problem, device, out boxRefusal) ?? decode;
        WarpgroupTile? warpgroups = prefill is not null && (form ?? PrefillForms.Default) == PrefillForm.Warpgroups ? WarpgroupsOf(problem, device, out refusal) : null;
        KernelChoice choice = KernelChoice.Of(problem, prefill is not null, decode is not null, forced);
        SplitFolding? folding = choice.Few != AttentionKernel.Decode ? null : new(
            DecodeTile.SplitKeys, TileTable.MinGroupKeys, TileTable.MostGroups(problem.KeyValueHeads), device.Multiprocessors, decode.GetValueOrDefault().Blocks, items ?? DecodeItems.Default);
        return new(prefill, warpgroups, refusal, decode, choice, TileTable.MostSplits(problem.KeyValueHeads), folding, problem.Group) { BoxRefusal = boxRefusal, HasLongParameters = device.DriverVersion >= CallBlock.FirstLongDriver };
    }

    /// <summary>Keys of a tile of the prefill.</summary>
    public int PrefillKeys => Warpgroups?.Keys ?? Prefill!.Value.Keys;

    public int ItemRows(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => Warpgroups is WarpgroupTile tile ? tile.Rows / Group * Group : Prefill.GetValueOrDefault().Rows,
        AttentionKernel.Decode => DecodeTile.Rows,
        _ => TileTable.PlainItemRows,
    };

    private static WarpgroupTile? WarpgroupsOf(AttentionProblem problem, CudaDeviceDescription device, out WarpgroupRefusal refusal)
    {
        WarpgroupTile? tile = null;
        if (device is not { Major: TileTable.WarpgroupMajor, Minor: 0 }) refusal = WarpgroupRefusal.OtherDevice;
        else if (device.DriverVersion < TileTable.FirstWarpgroupDriver) refusal = WarpgroupRefusal.OldDriver;
        else if (TileTable.HasFunctions(problem) && (problem.HasMask || problem.HasBias)) refusal = WarpgroupRefusal.Functions;
        else if (problem.KeyValueType.IsEightBit()) refusal = WarpgroupRefusal.EightBits;
        else if (TileTable.IsSlowerByWarpgroups(problem)) refusal = WarpgroupRefusal.MaskAlone;
        else if ((tile = TileTable.Warpgroups(problem.KeyDim, problem.ValueDim, device, TileTable.UseOf(problem), TileTable.LookupsOf(problem))) is null) refusal = WarpgroupRefusal.NoTile;
        else refusal = WarpgroupMaps.Of(problem, tile.Value).Refusal;
        return refusal == WarpgroupRefusal.None ? tile : null;
    }

    private static DecodeTile? BoxesOf(AttentionProblem problem, CudaDeviceDescription device, out WarpgroupRefusal refusal)
    {
        DecodeTile? tile = null;
        if (device is not { Major: TileTable.WarpgroupMajor, Minor: 0 }) refusal = WarpgroupRefusal.OtherDevice;
        else if (device.DriverVersion < TileTable.FirstWarpgroupDriver) refusal = WarpgroupRefusal.OldDriver;
        else if ((tile = TileTable.DecodeBoxes(problem.KeyDim, problem.ValueDim, device, problem.KeyValueType.Size(), KernelTraits.Of(problem, isAligned: true).Features)) is null) refusal = WarpgroupRefusal.NoTile;
        else refusal = DecodeMaps.Of(problem, tile.Value).Refusal;
        return refusal == WarpgroupRefusal.None ? tile : null;
    }

    /// <summary>Launches are not cut, so nobody asks for more than an order of items.</summary>
    public double CostOfWork(AttentionKernel kernel) => 1;
}
