using FusedAttention.Cuda.Ptx;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Attention of a block of rows over tiles of keys by matrix products of warpgroups (<c>wgmma</c>) on what the device's copy unit brings (TMA): for Hopper, compute capability 9.0a. The algorithm and its
/// arithmetic are those of <see cref="PrefillKernel"/>; what differs is who does what.
/// </summary>
/// <remarks>
/// Blocks of threads stay, one a multiprocessor. One warp of each hands out items, one copies queries and keys, one values, one what scores are looked up in; two or three warpgroups compute, 64 rows each. Tiles of keys and of values go through two stages each, so the
/// copies of an item's beginning run while the item before ends.
/// </remarks>
internal static class WarpgroupPrefillKernel
{
    /// <param name="traits">What it is specialised for: 16-bit elements of one type, dimensions that are multiples of 8.</param>
    /// <param name="tile">Its sizes.</param>
    /// <param name="mostPolls">After how many looks a wait traps, for finding what hangs; 0: never.</param>
    /// <param name="hasLongParameters">Whether the parameter has <see cref="CallBlock.LongParameterBytes"/>.</param>
    public static PtxKernel Write(in KernelTraits traits, in WarpgroupTile tile, int mostPolls = 0, bool hasLongParameters = false)
    {
        if (traits.Has(CallFeatures.Mask) != tile.Lookups.HasMask || traits.Has(CallFeatures.Bias) != tile.Lookups.HasBias || traits.Has(CallFeatures.MaskFunction) != tile.Lookups.HasTileMap) throw new ArgumentException($"The tile is not one for {traits.Features}.", nameof(traits));
        var k = new PtxKernel("prefill_wgmma", PtxTarget.Sm90a, tile.Threads, 1, WarpgroupBlock.BytesOf(hasLongParameters)) { MostPolls = mostPolls, ParameterAlignment = 64 };
        var call = new CallReader(k, traits);
        var memory = new WarpgroupMemory(k, tile, traits.KeyDim, traits.ValueDim);
        I32 thread = k.ThreadIndex().As("thread");
        k.If(thread.Is(0), memory.Initialize);
        ClearQueries(k, memory, tile, thread);
        k.Barrier();
        I32 warpgroup = k.ShuffleFrom(thread >>> 7, 0).As("warpgroup");
        WarpgroupTile sizes = tile;
        k.If(warpgroup.Is(0), () =>
        {
            k.LowerRegisters(sizes.ProducerRegisters);
            I32 warp = k.ShuffleFrom(thread >>> 5, 0).As("warp"), lane = (thread & 31).As("producer_lane");
            var work = new WarpgroupWork(k, call, memory, sizes);
            k.If(warp.Is(0), () => new WarpgroupKeyLoads(k, call, memory, sizes, lane).LoadItems(work));
            k.If(warp.Is(1), () => new WarpgroupValueLoads(k, call, memory, sizes, lane).LoadItems(work));
            WarpgroupMaskPacker? PackerOf(int number) => sizes.Lookups.Packers > number ? new(k, call, memory, sizes, lane, number) : null;
            k.If(warp.Is(2), () => work.HandOut(lane, PackerOf(0)));
            if (sizes.Lookups.HasBiasOfKeys) k.If(warp.Is(3), () => new WarpgroupKeyBiasCopier(k, call, memory, sizes, lane).CopyItems(work));
            else if (sizes.Lookups.HasBias) k.If(warp.Is(3), () => new WarpgroupBiasCopier(k, call, memory, sizes, lane).CopyItems(work));
            else if (sizes.Lookups.Numbers.Exist) k.If(warp.Is(3), () => new WarpgroupNumberWriter(k, call, memory, sizes, lane).WriteItems(work));
            else if (sizes.Lookups.HasMask) k.If(warp.Is(3), () => PackerOf(1)!.PackItems(work));
        }, () =>
        {
            k.RaiseRegisters(sizes.ConsumerRegisters);
            new WarpgroupConsumer(k, call, memory, sizes, thread, (warpgroup - 1).As("consumer")).Write();
        });
        k.Exit();
        return k;
    }

    /// <summary>Rows that no query ever comes to, where the group does not divide a block's rows, are zero: what lay there might be NaN, and would keep their warps from going by a maximum.</summary>
    private static void ClearQueries(PtxKernel k, WarpgroupMemory memory, WarpgroupTile tile, I32 thread) => k.If(new WarpgroupParameters(k).QueryRows < tile.Rows, () =>
    {
        I32 zero = I32.InRegister(k, 0);
        k.For("clear", thread << 4, tile.QueryStages * memory.QueryRows.Bytes, tile.Threads * 16, offset => k.StoreVector(memory.Queries + offset, zero, zero, zero, zero));
        k.FenceAsyncProxy();
    });
}
