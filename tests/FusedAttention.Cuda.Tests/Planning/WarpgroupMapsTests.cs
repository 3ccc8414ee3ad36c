using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Cuda.Tests.Planning;

/// <summary>Tensors as the copy unit is told of them, and which calls go to warpgroups.</summary>
public sealed class WarpgroupMapsTests
{
    private static readonly CudaDeviceDescription Hopper = new(0, "Test", 9, 0, 132, 232448, 80L << 30, 13000);

    private static readonly WarpgroupTile Tile = new(Consumers: 2, Keys: 128, QueryStages: 1, SeesAll: false, ProducerRegisters: 40, ConsumerRegisters: 232);

    [Fact]
    public void Dense_sequences_are_steps_of_the_last_dimension()
    {
        WarpgroupMaps maps = WarpgroupMaps.Of(Dense(new(3, 100, 200, 8, 2, 128, 64)), Tile);
        Assert.Equal(new(0, false, 128, 8, 100, 3, 256, 8 * 256, 100 * 8 * 256, 64, 4, 32), maps.Query);
        Assert.Equal(new(0, false, 128, 200, 2, 3, 2 * 256, 256, 200 * 2 * 256, 64, 128, 1), maps.Key);
        Assert.Equal(new(0, false, 64, 200, 2, 3, 2 * 128, 128, 200 * 2 * 128, 64, 128, 1), maps.Value);
        Assert.True(maps is { QueryAxis.IsBatched: true, KeyAxis.IsBatched: true, ValueAxis.IsBatched: true, Refusal: WarpgroupRefusal.None });
    }

    /// <summary>A map has the longest length in every step: a shorter sequence at the end would be read past its tensor.</summary>
    [Fact]
    public void A_shorter_last_sequence_lies_along_the_tokens()
    {
        AttentionProblem problem = Dense(new(3, 100, 200, 8, 2, 128, 64));
        problem.Sequences[2].KeyLength = 199;
        WarpgroupMaps maps = WarpgroupMaps.Of(problem, Tile);
        Assert.Equal((false, 599L, 1L), (maps.KeyAxis.IsBatched, maps.KeyAxis.Tokens, maps.KeyAxis.Batches));
        Assert.Equal((599L, 1L), (maps.Value.Length1, maps.Value.Length3));
        Assert.True(maps.QueryAxis.IsBatched);
    }

    [Fact]
    public void Packed_sequences_lie_along_the_tokens()
    {
        AttentionProblem problem = ShapeProblem.Sequences<BFloat16, BFloat16>(new AttentionShape(1, 1, 1, 8, 8, 64, 64), [100, 0, 30], [100, 70, 30], null, AttentionOptions.Default);
        WarpgroupMaps maps = WarpgroupMaps.Of(problem, Tile);
        Assert.Equal(new(0, true, 64, 8, 130, 1, 128, 8 * 128, 16, 64, 1, 128), maps.Query);
        Assert.Equal(new(0, true, 64, 200, 8, 1, 8 * 128, 128, 16, 64, 128, 1), maps.Key);
        Assert.Equal((false, false), (maps.QueryAxis.IsBatched, maps.KeyAxis.IsBatched));
    }

    [Theory]
    [InlineData(16, 176, 16)]
    [InlineData(64, 128, 64)]
    [InlineData(256, 128, 128)]
    [InlineData(24, 128, 8)]
    [InlineData(3, 176, 1)]
    public void Pages_are_boxes_of_what_lies_in_one_block_and_one_tile(int blockSize, int keys, int box)
    {
        AttentionProblem problem = ShapeProblem.Sequences<Half, Half>(new AttentionShape(1, 1, 1, 8, 2, 128, 128), [100], [500], blockSize, AttentionOptions.Default);
        (problem.KeyBlockStride, problem.ValueBlockStride) = (blockSize * 2 * 128, blockSize * 2 * 128);
        WarpgroupMaps maps = WarpgroupMaps.Of(problem, Tile with { Keys = keys });
        Assert.Equal((WarpgroupRefusal.None, (long)blockSize, box, 1), (maps.Refusal, maps.Key.Length1, maps.Key.Box1, maps.Key.Box2));
        Assert.Equal(blockSize * 2L * 256, maps.Value.Stride3);
    }

    [Theory]
    [InlineData(1, 5)]
    [InlineData(3, 7)]
    [InlineData(6, 12)]
    [InlineData(128, 1)]
    public void Rows_of_an_item_are_whole_queries(int group, int heads)
    {
        AttentionProblem problem = Dense(new(1, 100, 100, group * heads, heads, 64, 64));
        WarpgroupMaps maps = WarpgroupMaps.Of(problem, Tile);
        Assert.Equal(WarpgroupMaps.RowsOf(problem, Tile), maps.Query.Box1 * maps.Query.Box2);
        Assert.Equal((group, 128 / group), (maps.Query.Box1, maps.Query.Box2));
    }

    [Fact]
    public void What_warpgroups_do_not_take_is_told()
    {
        var shape = new AttentionShape(2, 100, 100, 8, 2, 128);
        Assert.Contains("wgmma: blocks of 128 rows, 2 warpgroups of 64 and one that copies, tiles of 176 keys", Details(Dense(shape), Hopper), StringComparison.Ordinal);
        Assert.Contains("tiles of 128 keys", Details(Dense(shape, new AttentionOptions { Mask = AttentionMask.Causal }), Hopper), StringComparison.Ordinal);
        Assert.Contains("compute capability 9.1, not 9.0", Details(Dense(shape), Hopper with { Minor = 1 }), StringComparison.Ordinal);
        Assert.Contains("the driver knows CUDA 11.8, not 12.0", Details(Dense(shape), Hopper with { DriverVersion = 11080 }), StringComparison.Ordinal);
        Assert.Contains("the mask packed to bits a few tiles ahead", Details(ShapeProblem.Dense<Half, Half>(shape, AttentionOptions.Default, OperandKinds.BooleanMask), Hopper), StringComparison.Ordinal);
        Assert.Contains("tiles of 128 keys, 2 stages, 231680 bytes of shared memory, 2 tiles of the bias", Details(ShapeProblem.Dense<Half, Half>(shape, AttentionOptions.Default, OperandKinds.BiasFloat16), Hopper), StringComparison.Ordinal);
        Assert.Contains("2 tiles of the bias, one row for all", Details(ShapeProblem.Dense<Half, Half>(shape, AttentionOptions.Default, OperandKinds.BiasFloat16 | OperandKinds.BiasOfKeys), Hopper), StringComparison.Ordinal);
        Assert.Contains("no tile for dimensions 256/64 fits 101376 bytes", Details(Dense(new(1, 100, 100, 8, 2, 256, 64)), Hopper with { MaxSharedMemory = 101376 }), StringComparison.Ordinal);
        Assert.Contains("200 query heads a key/value head", Details(Dense(new(1, 100, 100, 200, 1, 128)), Hopper), StringComparison.Ordinal);
        AttentionProblem broadcast = Dense(shape);
        broadcast.KeyHeadStride = 0;
        Assert.Contains("or a stride is 0", Details(broadcast, Hopper), StringComparison.Ordinal);

        static string Details(AttentionProblem problem, CudaDeviceDescription device) => CudaPlan.Of(problem, device, isAligned: true, form: PrefillForm.Warpgroups).Details;
    }

    [Fact]
    public void What_a_decode_by_boxes_does_not_take_is_told()
    {
        var shape = new AttentionShape(2, 1, 1000, 8, 2, 128);
        Assert.Contains("TMA: blocks of 16 rows, 4 warps and one that copies, tiles of 64 keys, 2 stages", Details(Dense(shape), Hopper), StringComparison.Ordinal);
        Assert.Contains("cp.async instead of TMA: compute capability 9.1, not 9.0", Details(Dense(shape), Hopper with { Minor = 1 }), StringComparison.Ordinal);
        Assert.Contains("the driver knows CUDA 11.8, not 12.0", Details(Dense(shape), Hopper with { DriverVersion = 11080 }), StringComparison.Ordinal);
        Assert.Contains("no tile for dimensions 256/256 fits 101376 bytes", Details(Dense(new(1, 1, 100, 8, 2, 256)), Hopper with { MaxSharedMemory = 101376 }), StringComparison.Ordinal);
        Assert.Contains("blocks of 12 tokens share fewer than 8 with a tile of 64", Details(ShapeProblem.Sequences<Half, Half>(shape, [1], [100], 12, AttentionOptions.Default), Hopper), StringComparison.Ordinal);
        AttentionProblem broadcast = Dense(shape);
        broadcast.KeyHeadStride = 0;
        Assert.Contains("or a stride is 0", Details(broadcast, Hopper), StringComparison.Ordinal);
        Assert.DoesNotContain("TMA", CudaPlan.Of(Dense(shape), Hopper, isAligned: true, copies: DecodeCopies.Async).Details, StringComparison.Ordinal);

        static string Details(AttentionProblem problem, CudaDeviceDescription device) => CudaPlan.Of(problem, device, isAligned: true, copies: DecodeCopies.Boxes).Details;
    }

    /// <summary>Every dimension that the decode takes has a tile of boxes on a Hopper, its barriers end where its boxes begin, and there is room for the partial results of an item's end.</summary>
    [Fact]
    public void Tiles_of_boxes_fit_a_multiprocessor()
    {
        for (int key = 16; key <= 256; key += 8)
        for (int value = 16; value <= 256; value += 8)
        {
            DecodeTile tile = TileTable.DecodeBoxes(key, value, Hopper)!.Value;
            Assert.InRange((tile.SharedBytes(key, value) + 1024) * tile.Blocks, 1, Hopper.MaxSharedMemory + 1024);
            Assert.InRange(tile.BarriersOffset + (16 * tile.Stages), 1, tile.HeadBytes);
            Assert.InRange(tile.Warps * 32 * value * sizeof(float), 1, tile.StagedBytes(key, value) - tile.HeadBytes);
            Assert.Equal(0, tile.HeadBytes % 1024);
        }
    }

    /// <summary>Every dimension that the prefill takes has a tile for warpgroups on a Hopper, and the registers and the shared memory that it counts on are there.</summary>
    [Fact]
    public void Tiles_fit_a_multiprocessor()
    {
        for (int key = 16; key <= 256; key += 8)
        for (int value = 16; value <= 256; value += 8)
        foreach (WarpgroupUse use in Enum.GetValues<WarpgroupUse>())
        foreach (WarpgroupLookups lookups in (WarpgroupLookups[])[default, new(HasMask: true, 0), new(HasMask: false, 2), new(HasMask: false, 4), new(HasMask: true, 2), new(HasMask: true, 4), new(HasMask: false, 0, HasTileMap: true)])
        {
            WarpgroupTile tile = TileTable.Warpgroups(key, value, Hopper, use, lookups)!.Value;
            Assert.InRange(tile.SharedBytes(key, value), 1, Hopper.MaxSharedMemory);
            Assert.InRange(WarpgroupTile.WarpgroupThreads * (tile.ProducerRegisters + (tile.Consumers * tile.ConsumerRegisters)), 1, 65536);
            Assert.InRange((tile.Keys * 3 / 4) + (new BoxedRows(value, tile.Keys).Columns / 2), 1, tile.ConsumerRegisters);
            Assert.Equal(0, tile.Keys % 16);
        }
    }

    private static AttentionProblem Dense(AttentionShape shape, AttentionOptions? options = null) => ShapeProblem.Dense<Half, Half>(shape, options ?? AttentionOptions.Default);
}
