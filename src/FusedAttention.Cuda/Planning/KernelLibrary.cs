using System.Collections.Concurrent;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;

namespace FusedAttention.Cuda.Planning;

/// <summary>The attention kernels, specialised. Each is made once in a process, and found by value from then on.</summary>
internal static class KernelLibrary
{
    private static readonly ConcurrentDictionary<(KernelTraits Traits, PrefillTile Tile, bool IsLong), KernelFunction> Prefills = new();
    private static readonly ConcurrentDictionary<(KernelTraits Traits, WarpgroupTile Tile, bool IsLong), KernelFunction> Warpgroups = new();
    private static readonly ConcurrentDictionary<(KernelTraits Traits, DecodeTile Tile, bool IsLong), KernelFunction> Decodes = new();
    private static readonly ConcurrentDictionary<(KernelTraits Traits, bool IsLong), KernelFunction> Plains = new();
    private static readonly ConcurrentDictionary<(KernelTraits Traits, int Keys, bool IsLong), KernelFunction> TileMaps = new();

    /// <summary>What asks the mask function of a prefill, ahead of it, which tiles are seen.</summary>
    /// <param name="traits">What the prefill is specialised for.</param>
    /// <param name="tiles">With its sizes.</param>
    public static KernelFunction TileMapOf(in KernelTraits traits, in KernelTiles tiles) => TileMaps.GetOrAdd((traits, tiles.PrefillKeys, tiles.HasLongParameters), static key => new(
        "map_tiles", LabelOf("map of tiles", key.Traits), TileMapKernel.Threads, sharedBytes: 0, () => TileMapKernel.Write(key.Traits, key.Keys, key.IsLong).ToString()));

    /// <param name="kernel">Which.</param>
    /// <param name="traits">What it is specialised for.</param>
    /// <param name="tiles">With sizes for it.</param>
    public static KernelFunction Of(AttentionKernel kernel, in KernelTraits traits, in KernelTiles tiles) => kernel switch
    {
        AttentionKernel.Prefill when tiles.Warpgroups is WarpgroupTile tile => Warpgroups.GetOrAdd((traits, tile, tiles.HasLongParameters), static key => new(
            "prefill_wgmma", LabelOf("prefill (wgmma)", key.Traits), key.Tile.Threads, key.Tile.SharedBytes(key.Traits.KeyDim, key.Traits.ValueDim), () => WarpgroupPrefillKernel.Write(key.Traits, key.Tile, PrefillForms.MostPolls, key.IsLong).ToString())),
        AttentionKernel.Prefill => Prefills.GetOrAdd((traits, tiles.Prefill!.Value, tiles.HasLongParameters), static key => new(
            "prefill", LabelOf("prefill", key.Traits), key.Tile.Threads, key.Tile.SharedBytes(key.Traits.KeyDim, key.Traits.ValueDim, key.Traits.Has(CallFeatures.Mask)), () => PrefillKernel.Write(key.Traits, key.Tile, key.IsLong).ToString())),
        AttentionKernel.Decode when tiles.Decode is { HasBoxes: true } boxes => Decodes.GetOrAdd((traits, boxes, tiles.HasLongParameters), static key => new(
            "decode_tma", LabelOf("decode (TMA)", key.Traits), key.Tile.BlockThreads, key.Tile.SharedBytes(key.Traits.KeyDim, key.Traits.ValueDim), () => DecodeKernel.Write(key.Traits, key.Tile, PrefillForms.MostPolls, key.IsLong).ToString())),
        AttentionKernel.Decode => Decodes.GetOrAdd((traits, tiles.Decode!.Value, tiles.HasLongParameters), static key => new(
            "decode", LabelOf("decode", key.Traits), key.Tile.BlockThreads, key.Tile.SharedBytes(key.Traits.KeyDim, key.Traits.ValueDim), () => DecodeKernel.Write(key.Traits, key.Tile, hasLongParameters: key.IsLong).ToString())),
        AttentionKernel.Plain => Plains.GetOrAdd((traits, tiles.HasLongParameters), static key => new(
            "plain", LabelOf("plain", key.Traits), TileTable.PlainWarps * 32, sharedBytes: 0, () => PlainKernel.Write(key.Traits, TileTable.PlainWarps, key.IsLong).ToString())),
        _ => throw new ArgumentOutOfRangeException(nameof(kernel), kernel, null),
    };

    /// <summary>A kernel in a word.</summary>
    public static string NameOf(AttentionKernel kernel) => kernel switch
    {
        AttentionKernel.Prefill => "prefill",
        AttentionKernel.Decode => "decode",
        AttentionKernel.Plain => "plain",
        _ => throw new ArgumentOutOfRangeException(nameof(kernel), kernel, null),
    };

    private static string LabelOf(string name, in KernelTraits traits) =>
        $"{name} {traits.QueryType}{(traits.KeyValueType == traits.QueryType ? "" : $" over {traits.KeyValueType}")} {traits.KeyDim}/{traits.ValueDim}{(traits.BlockSize > 0 ? $" blocks of {traits.BlockSize}" : "")} {traits.Features}{(traits.Score is null ? "" : $", scores by {traits.Score.Steps.Length} operations")}{(traits.Keep is null ? "" : $", masked by {traits.Keep.Steps.Length}")}";
}
