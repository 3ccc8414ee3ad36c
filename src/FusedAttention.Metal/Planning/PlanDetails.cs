using System.Globalization;
using System.Text;
using FusedAttention.Metal.Launching;
using FusedAttention.Problems;

namespace FusedAttention.Metal.Planning;

/// <summary>Puts a plan into words.</summary>
internal static class PlanDetails
{
    public static string Of(AttentionProblem problem, MetalDeviceDescription device, KernelChoice choice, CallItems items)
    {
        var text = new StringBuilder();
        foreach ((KernelFamily family, WorkList list) in items.Lists.OrderBy(pair => pair.Key != KernelFamily.Prefill))
        {
            if (text.Length > 0) text.Append('\n');
            text.Append(CultureInfo.InvariantCulture, $"{KernelLibrary.NameOf(family),-17}{list.Sequences} sequences ({Reason(problem, device, choice, family)})\n                 ");
            text.Append(Tiles(problem, family));
        }

        if (items.SplitSequences > 0) text.Append(CultureInfo.InvariantCulture, $"\nsplits           {items.SplitSequences} sequences, up to {items.MostSplits} splits of {SplitTable.MinKeys} keys or more");
        return text.ToString();
    }

    private static string Reason(AttentionProblem problem, MetalDeviceDescription device, KernelChoice choice, KernelFamily family)
    {
        if (choice.Many == choice.Few && problem.RowInvariant && family == KernelFamily.Prefill) return "all, because RowInvariant asks for one arithmetic";
        if (family == KernelFamily.Prefill) return $"more than 1 query and more than {SplitTable.MaxRows} rows a key/value head";
        if (family == KernelFamily.Decode) return $"1 query, or at most {SplitTable.MaxRows} rows a key/value head";
        string dims = $"dimensions {problem.KeyDim}/{problem.ValueDim}";
        if (TileTable.Prefill(problem.KeyDim, problem.ValueDim, problem.KeyValueType) is null) return $"{dims}: prefill takes multiples of 8 from 32 to 256";
        if (!device.HasKnownLaneMap) return "the device's layout of simdgroup matrices is not the one that prefill knows";
        return $"{dims} with few rows: decode has no tile for them";
    }

    private static string Tiles(AttentionProblem problem, KernelFamily family)
    {
        switch (family)
        {
            case KernelFamily.Prefill:
                PrefillTile prefill = TileTable.Prefill(problem.KeyDim, problem.ValueDim, problem.KeyValueType)!.Value;
                return $"blocks of {prefill.Rows} rows, tiles of {prefill.Keys} keys, {prefill.ThreadgroupBytes} bytes of threadgroup memory";
            case KernelFamily.Decode:
                DecodeTile decode = TileTable.Decode(problem.KeyDim, problem.ValueDim)!.Value;
                return $"{decode.Rows} rows share the load of a key, tiles of {decode.Keys} keys, {decode.ThreadgroupBytes} bytes of threadgroup memory";
            default:
                return "one simdgroup a row, tiles of 32 keys, no threadgroup memory";
        }
    }
}
