using System.Globalization;
using System.Text;
using FusedAttention.Devices;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>Puts a plan into words.</summary>
internal static class PlanDetails
{
    private static readonly AttentionKernel[] Kernels = [AttentionKernel.Prefill, AttentionKernel.Plain, AttentionKernel.Decode];

    public static string Of(AttentionProblem problem, MetalDeviceDescription device, in KernelTiles tiles, DevicePlan plan)
    {
        var text = new StringBuilder();
        foreach (AttentionKernel kernel in Kernels)
        {
            if (plan.ItemsOf(kernel).Count == 0) continue;
            if (text.Length > 0) text.Append('\n');
            text.Append(CultureInfo.InvariantCulture, $"{KernelLibrary.NameOf(kernel),-17}{plan.ItemsOf(kernel).Sequences} sequences ({Reason(problem, device, tiles, kernel)})\n                 ");
            text.Append(Tiles(tiles, kernel));
        }

        if (plan.SplitSequences > 0) text.Append(CultureInfo.InvariantCulture, $"\nsplits           {plan.SplitSequences} sequences, up to {plan.MostSplits} splits of {tiles.MinSplitKeys} keys or more");
        return text.ToString();
    }

    private static string Reason(AttentionProblem problem, MetalDeviceDescription device, in KernelTiles tiles, AttentionKernel kernel)
    {
        if (tiles.Choice.Many == tiles.Choice.Few && problem.RowInvariant && kernel == AttentionKernel.Prefill) return "all, because RowInvariant asks for one arithmetic";
        if (kernel == AttentionKernel.Prefill) return $"more than 1 query and more than {tiles.MostFewRows} rows a key/value head";
        if (kernel == AttentionKernel.Decode) return $"1 query, or at most {tiles.MostFewRows} rows a key/value head";
        string dims = $"dimensions {problem.KeyDim}/{problem.ValueDim}";
        if (TileTable.Prefill(problem.KeyDim, problem.ValueDim, problem.QueryType, problem.KeyValueType) is null) return $"{dims}: prefill takes multiples of 8 from 32 to 256";
        if (!KernelTiles.IsWithinReach(problem)) return $"keys lie more than {TileTable.MostTokenStride} elements apart";
        if (!device.HasKnownLaneMap) return "the device's layout of simdgroup matrices is not the one that prefill knows";
        return $"{dims} with few rows: decode has no tile for them";
    }

    private static string Tiles(in KernelTiles tiles, AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill when tiles.Prefill is PrefillTile prefill =>
            $"blocks of {prefill.Rows} rows, tiles of {prefill.Keys} keys, {prefill.ThreadgroupBytes} bytes of threadgroup memory",
        AttentionKernel.Decode when tiles.Decode is DecodeTile decode =>
            $"{decode.Rows} rows share the load of a key, tiles of {decode.Keys} keys, {decode.ThreadgroupBytes} bytes of threadgroup memory",
        _ => "one simdgroup a row, tiles of 32 keys, no threadgroup memory",
    };
}
