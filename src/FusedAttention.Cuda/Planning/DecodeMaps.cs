using System.Runtime.InteropServices;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Devices;
using FusedAttention.Problems;

namespace FusedAttention.Cuda.Planning;

/// <summary>A call's keys and values as the copy unit is told of them by a decode, less their addresses: pure, and the same for any memory.</summary>
/// <param name="Key">Boxes are keys of one head.</param>
/// <param name="Value">Likewise.</param>
/// <param name="KeyAxis">Where sequences lie; nothing with pages.</param>
/// <param name="ValueAxis">Where sequences lie; nothing with pages.</param>
/// <param name="Refusal">Not none: nothing else is there.</param>
internal readonly record struct DecodeMaps(TensorMapShape Key, TensorMapShape Value, TokenAxis KeyAxis, TokenAxis ValueAxis, WarpgroupRefusal Refusal)
{
    /// <summary>Rows of a box of a paged cache, at least: eight have the swizzle's period of 1,024 bytes, and a tile of 64 keys is 8 boxes of 64 columns then.</summary>
    private const int FewestBoxRows = 8;

    /// <param name="problem">The call: with strides and starts that are multiples of 16 bytes.</param>
    /// <param name="tile">The sizes of the kernel.</param>
    public static DecodeMaps Of(AttentionProblem problem, in DecodeTile tile)
    {
        int boxRows = TileBoxes.BoxRows(problem.BlockSize, tile.TileKeys);
        if (boxRows < FewestBoxRows) return new() { Refusal = WarpgroupRefusal.SmallBlocks };
        return WarpgroupMaps.OfKeysAndValues(problem, boxRows, out TensorMapShape keys, out TensorMapShape values, out TokenAxis key, out TokenAxis value)
            ? new(keys, values, key, value, WarpgroupRefusal.None)
            : new() { Refusal = WarpgroupRefusal.Strides };
    }

    /// <summary>Writes the <see cref="DecodeBoxBlock"/> of a parameter.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="tile">The kernel's sizes.</param>
    /// <param name="memory">Where the tensors lie.</param>
    /// <param name="blocks">Blocks of a paged cache.</param>
    /// <param name="maps">The device's maps of tensors.</param>
    /// <param name="parameters"><see cref="CallBlock.MostParameterBytes"/>.</param>
    public static void Write(AttentionProblem problem, in DecodeTile tile, in CallMemory memory, int blocks, TensorMapCache maps, Span<byte> parameters)
    {
        DecodeMaps shapes = Of(problem, tile);
        ref DecodeBoxBlock block = ref MemoryMarshal.AsRef<DecodeBoxBlock>(parameters[DecodeBoxBlock.Offset..]);
        block = default;
        maps.Get(WarpgroupBinding.OverBlocks(shapes.Key with { Address = WarpgroupBinding.AddressOf(memory.Key, shapes.KeyAxis, problem.KeyValueType) }, problem, blocks), out block.KeyMap);
        maps.Get(WarpgroupBinding.OverBlocks(shapes.Value with { Address = WarpgroupBinding.AddressOf(memory.Value, shapes.ValueAxis, problem.KeyValueType) }, problem, blocks), out block.ValueMap);
        block.KeyBatches = shapes.KeyAxis.IsBatched ? 1 : 0;
        block.ValueBatches = shapes.ValueAxis.IsBatched ? 1 : 0;
    }
}
