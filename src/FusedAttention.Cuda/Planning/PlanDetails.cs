using System.Globalization;
using System.Text;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>Puts a plan into words.</summary>
internal static class PlanDetails
{
    private static readonly AttentionKernel[] Kernels = [AttentionKernel.Prefill, AttentionKernel.Plain, AttentionKernel.Decode];

    public static string Of(AttentionProblem problem, CudaDeviceDescription device, bool isAligned, in KernelTiles tiles, DevicePlan plan, bool hasInlineTables, bool hasMap)
    {
        var text = new StringBuilder();
        foreach (AttentionKernel kernel in Kernels)
        {
            if (plan.ItemsOf(kernel).Count == 0) continue;
            text.Append(CultureInfo.InvariantCulture, $"{KernelLibrary.NameOf(kernel),-17}{plan.ItemsOf(kernel).Sequences} sequences ({Reason(problem, device, isAligned, tiles, kernel)})\n");
            text.Append(CultureInfo.InvariantCulture, $"                 {Tiles(problem, tiles, kernel)}\n");
            if (kernel == AttentionKernel.Prefill && hasMap) text.Append("                 a launch ahead asks the mask function which tiles are seen; the others are passed over\n");
            if (kernel == AttentionKernel.Prefill && tiles.Refusal != WarpgroupRefusal.None)
                text.Append(CultureInfo.InvariantCulture, $"                 mma.sync instead of wgmma: {Words(problem, device, tiles.Refusal)}\n");
            if (kernel == AttentionKernel.Decode && tiles.BoxRefusal != WarpgroupRefusal.None)
                text.Append(CultureInfo.InvariantCulture, $"                 cp.async instead of TMA: {Words(problem, device, tiles.BoxRefusal)}\n");
        }

        if (tiles.Folding is SplitFolding folding && plan.ItemsOf(AttentionKernel.Decode).Count > 0)
            text.Append(CultureInfo.InvariantCulture, $"splits           of {folding.SplitKeys} keys, folded into groups of {folding.GroupKeys} or more, and those into the whole\n");
        if (plan.SplitSequences > 0)
            text.Append(CultureInfo.InvariantCulture, $"items            {plan.SplitSequences} sequences are split among items, up to {plan.MostSplits}, and merged by the last of them to end\n");
        if (!plan.IsEmpty) text.Append(CultureInfo.InvariantCulture, $"tables           {plan.Scratch.TableBytes} bytes, {(hasInlineTables ? "in the launch's parameters" : "copied to the device by each call")}\n");
        return text.ToString().TrimEnd('\n');
    }

    private static string Reason(AttentionProblem problem, CudaDeviceDescription device, bool isAligned, in KernelTiles tiles, AttentionKernel kernel)
    {
        if (tiles.Choice.Many == tiles.Choice.Few && problem.RowInvariant && kernel == AttentionKernel.Prefill) return "all, because RowInvariant asks for one arithmetic";
        if (kernel == AttentionKernel.Prefill) return $"more than 1 query and more than {tiles.MostFewRows} rows a key/value head";
        if (kernel == AttentionKernel.Decode) return $"1 query, or at most {tiles.MostFewRows} rows a key/value head";
        string dims = $"dimensions {problem.KeyDim}/{problem.ValueDim}";
        if (TileTable.HasEightBitTypes(problem))
        {
            if (!TileTable.HasMatrixDims(problem.KeyDim, problem.ValueDim, elementBytes: 1)) return $"{dims}: prefill and decode take multiples of 16 from 16 to 256 where keys and values have 8 bits";
            if (device.Major >= TileTable.FirstMatrixMajor && !isAligned) return $"strides or beginnings are no multiples of {TileTable.VectorBytes} elements: plain kernel";
        }
        else if (!TileTable.HasMatrixTypes(problem))
        {
            return $"{problem.QueryType} over {problem.KeyValueType}: prefill and decode take one 16-bit type, or 8-bit keys and values under one";
        }

        if (!TileTable.HasMatrixDims(problem.KeyDim, problem.ValueDim)) return $"{dims}: prefill and decode take multiples of 8 from 16 to 256";
        if (device.Major < TileTable.FirstMatrixMajor) return $"compute capability {device.Major}.{device.Minor}: prefill and decode need {TileTable.FirstMatrixMajor}.0";
        if (!isAligned) return $"strides or beginnings are no multiples of {TileTable.VectorElements} elements: plain kernel";
        return $"{dims}: no tile fits {device.MaxSharedMemory} bytes of shared memory";
    }

    private static string Words(AttentionProblem problem, CudaDeviceDescription device, WarpgroupRefusal refusal) => refusal switch
    {
        WarpgroupRefusal.OtherDevice => $"compute capability {device.Major}.{device.Minor}, not 9.0",
        WarpgroupRefusal.OldDriver => $"the driver knows CUDA {device.DriverVersion / 1000}.{device.DriverVersion % 1000 / 10}, not {TileTable.FirstWarpgroupDriver / 1000}.0",
        WarpgroupRefusal.NoTile => $"no tile for dimensions {problem.KeyDim}/{problem.ValueDim} fits {device.MaxSharedMemory} bytes of shared memory",
        WarpgroupRefusal.MaskAlone => "a mask of its own, and no more than 64 dimensions, is faster there",
        WarpgroupRefusal.Functions => "functions beside a mask or a bias have no registers there",
        WarpgroupRefusal.Group => $"{problem.Group} query heads a key/value head are more than the rows of a block",
        WarpgroupRefusal.Strides => "sequences lie neither at equal steps nor at whole tokens, or a stride is 0, negative or 2^40 bytes and more",
        WarpgroupRefusal.SmallBlocks => $"blocks of {problem.BlockSize} tokens share fewer than 8 with a tile of 64",
        WarpgroupRefusal.EightBits => "keys and values of 8 bits, which are widened between shared memory and the products",
        _ => throw new ArgumentOutOfRangeException(nameof(refusal), refusal, null),
    };

    private static string Lookups(WarpgroupLookups lookups)
    {
        string mask = lookups.HasMask ? ", the mask packed to bits a few tiles ahead" : lookups.Numbers.Exist ? $", {Numbers(lookups.Numbers)}" : "";
        return lookups.HasBias ? $"{mask}, {WarpgroupLookups.BiasStages} tiles of the bias{(lookups.HasBiasOfKeys ? ", one row for all" : "")}" : mask;
    }

    private static string Numbers(TileNumberPlaces numbers) =>
        $"the score function's numbers of keys ({numbers.OfKeys}) and of distances ({numbers.OfDistances}) computed once a tile";

    private static string Tiles(AttentionProblem problem, in KernelTiles tiles, AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill when tiles.Warpgroups is WarpgroupTile tile =>
            $"wgmma: blocks of {tiles.ItemRows(kernel)} rows, {tile.Consumers} warpgroups of 64 and one that copies, tiles of {tile.Keys} keys, {WarpgroupTile.Stages} stages, {tile.SharedBytes(problem.KeyDim, problem.ValueDim)} bytes of shared memory{Lookups(tile.Lookups)}",
        AttentionKernel.Prefill when tiles.Prefill is PrefillTile prefill =>
            $"blocks of {prefill.Rows} rows, tiles of {prefill.Keys} keys, {PrefillTile.Stages} stages, {prefill.Threads} threads, {prefill.SharedBytes(problem.KeyDim, problem.ValueDim, problem.HasMask)} bytes of shared memory{(prefill.Numbers.Exist ? $", {Numbers(prefill.Numbers)}" : "")}",
        AttentionKernel.Decode when tiles.Decode is { HasBoxes: true } boxes =>
            $"TMA: blocks of {DecodeTile.Rows} rows, {boxes.Warps} warps and one that copies, tiles of {boxes.TileKeys} keys, {boxes.Stages} stages, {boxes.SharedBytes(problem.KeyDim, problem.ValueDim)} bytes of shared memory",
        AttentionKernel.Decode when tiles.Decode is DecodeTile decode =>
            $"blocks of {DecodeTile.Rows} rows, {decode.Warps} warps with tiles of {decode.Keys} keys, {decode.Stages} stages, {decode.SharedBytes(problem.KeyDim, problem.ValueDim)} bytes of shared memory",
        _ => $"one warp a row, {TileTable.PlainWarps * 32} threads, no shared memory",
    };
}
