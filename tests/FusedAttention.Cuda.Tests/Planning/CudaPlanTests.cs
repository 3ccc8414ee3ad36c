using System.Globalization;
using System.Text.RegularExpressions;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Tests.Gpu;
using FusedAttention.Devices;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Cuda.Tests.Planning;

/// <summary>Plans without running them: which kernel, how many items and splits, where tables go.</summary>
public sealed class CudaPlanTests
{
    private static readonly CudaDeviceDescription Device = new(0, "Test", 9, 0, 132, 232448, 80L << 30, 13000);

    [Theory]
    [InlineData(64, 64, 100, 100, false, "prefill")]
    [InlineData(64, 64, 1, 100, false, "decode")]
    [InlineData(64, 64, 4, 100, false, "decode")]
    [InlineData(64, 64, 5, 100, false, "prefill")]
    [InlineData(64, 64, 1, 100, true, "prefill")]
    [InlineData(24, 40, 100, 100, false, "prefill")]
    [InlineData(24, 40, 1, 100, false, "decode")]
    [InlineData(192, 128, 1, 100, false, "decode")]
    [InlineData(256, 256, 100, 100, false, "prefill")]
    [InlineData(264, 256, 100, 100, false, "plain")]
    [InlineData(8, 64, 100, 100, false, "plain")]
    [InlineData(100, 100, 100, 100, false, "plain")]
    [InlineData(576, 512, 1, 5000, false, "plain")]
    [InlineData(100, 100, 1, 5000, true, "plain")]
    public void Kernel_follows_from_dimensions_and_rows(int keyDim, int valueDim, int queries, int keys, bool rowInvariant, string kernel)
    {
        CudaPlan plan = Plan<Half, Half>(new(1, queries, keys, 8, 2, keyDim, valueDim), new AttentionOptions { RowInvariant = rowInvariant });
        Assert.Equal(kernel, plan.Kernel);
        Assert.Equal(kernel, Plan<BFloat16, BFloat16>(new(1, queries, keys, 8, 2, keyDim, valueDim), new AttentionOptions { RowInvariant = rowInvariant }).Kernel);
        if (rowInvariant) Assert.Equal(kernel is "prefill" ? WarpgroupBinding.SchedulerWords : 0, plan.Counters);
    }

    [Fact]
    public void What_tensor_cores_do_not_take_is_told()
    {
        var shape = new AttentionShape(1, 100, 100, 8, 2, 64);
        AssertPlain(Plan<float, float>(shape), "one 16-bit type");
        AssertPlain(Plan<float, Half>(shape), "Float32 over Float16");
        AssertPlain(Plan<Half, Half>(new(1, 100, 100, 8, 2, 100)), "100/100: prefill and decode take multiples of 8");
        AssertPlain(CudaPlan.Of(Problem<Half, Half>(shape, AttentionOptions.Default), Device, isAligned: false), "strides or beginnings are no multiples of 8 elements: plain kernel");
        AssertPlain(CudaPlan.Of(Problem<Half, Half>(shape, AttentionOptions.Default), Device with { Major = 7, Minor = 5 }, isAligned: true), "compute capability 7.5");
        AssertPlain(CudaPlan.Of(Problem<Half, Half>(shape, AttentionOptions.Default), Device with { MaxSharedMemory = 1000 }, isAligned: true), "1000 bytes of shared memory");

        static void AssertPlain(CudaPlan plan, string reason)
        {
            Assert.Equal("plain", plan.Kernel);
            Assert.Contains(reason, plan.Details, StringComparison.Ordinal);
        }
    }

    /// <summary>Explained by shapes alone: strides are those of contiguous tensors.</summary>
    [Fact]
    public void Odd_strides_are_seen()
    {
        AttentionProblem problem = Problem<Half, Half>(new(1, 100, 100, 8, 2, 64), AttentionOptions.Default);
        Assert.True(CudaPlan.HasAlignedStrides(problem));
        problem.OutputTokenStride += 4;
        Assert.False(CudaPlan.HasAlignedStrides(problem));
        problem.OutputTokenStride -= 4;
        problem.KeyHeadStride += 2;
        Assert.False(CudaPlan.HasAlignedStrides(problem));
        Assert.False(CudaPlan.HasAlignedStrides(Problem<Half, Half>(new(1, 1, 100, 1, 1, 100), AttentionOptions.Default)));
    }

    /// <summary>A single sequence is split into what fills the device, whatever its heads: into groups where the decode kernel has it, which are folded in order, and into splits where the plain one has.</summary>
    [Theory]
    [InlineData(1, 64, 64)]
    [InlineData(2, 64, 64)]
    [InlineData(3, 32, 64)]
    [InlineData(8, 16, 64)]
    [InlineData(16, 8, 32)]
    [InlineData(64, 8, 8)]
    [InlineData(100, 8, 8)]
    public void Splits_go_by_the_heads(int keyValueHeads, int mostSplits, int mostGroups)
    {
        Assert.Equal((mostSplits, mostGroups), (TileTable.MostSplits(keyValueHeads), TileTable.MostGroups(keyValueHeads)));
        CudaPlan plan = Plan<Half, Half>(new(1, 1, 1 << 20, keyValueHeads, keyValueHeads, 64)), plain = Plan<float, float>(new(1, 1, 1 << 20, keyValueHeads, keyValueHeads, 64));
        Assert.Equal(((long)mostGroups * keyValueHeads, mostGroups * keyValueHeads, 1), (plan.WorkItems, plan.Counters, plan.Launches));
        Assert.Contains($"split among items, up to {mostGroups}, and", plan.Details, StringComparison.Ordinal);
        Assert.Equal(((long)mostSplits * keyValueHeads, mostSplits * keyValueHeads, 1), (plain.WorkItems, plain.Counters, plain.Launches));
        Assert.Contains($"split among items, up to {mostSplits}, and", plain.Details, StringComparison.Ordinal);
    }

    /// <summary>What an H100 measured: batches, keys, query and key/value heads, and how many items a key/value head of a sequence has.</summary>
    [Theory]
    [InlineData(1, 512, 64, 8, 1)]
    [InlineData(1, 513, 64, 8, 1)]
    [InlineData(1, 1024, 64, 8, 2)]
    [InlineData(1, 4096, 32, 8, 8)]
    [InlineData(1, 32_768, 32, 8, 16)]
    [InlineData(8, 8192, 32, 8, 4)]
    [InlineData(16, 2048, 32, 8, 1)]
    [InlineData(64, 4096, 32, 8, 1)]
    [InlineData(64, 8192, 64, 8, 1)]
    [InlineData(33, 8192, 32, 8, 1)]
    [InlineData(37, 8192, 32, 8, 4)]
    public void Items_go_by_the_whole_call(int batch, int keys, int heads, int keyValueHeads, int items) =>
        Assert.Equal((long)items * batch * keyValueHeads, Plan<Half, Half>(new(batch, 1, keys, heads, keyValueHeads, 128)).WorkItems);

    [Theory]
    [InlineData("whole", 1)]
    [InlineData("groups", 5)]
    [InlineData("splits", 18)]
    public void Items_can_be_named(string name, int items)
    {
        AttentionProblem problem = Problem<Half, Half>(new(1, 1, 9000, 8, 2, 128), AttentionOptions.Default);
        Assert.Equal(2L * items, CudaPlan.Of(problem, Device, isAligned: true, items: DecodeItems.Of(name)).WorkItems);
    }

    [Fact]
    public void Other_names_of_items_are_none() => Assert.Null(DecodeItems.Of("halves"));

    [Fact]
    public void The_plain_kernel_splits_too()
    {
        CudaPlan plan = Plan<float, float>(new(1, 1, 100_000, 8, 8, 64));
        Assert.Equal(("plain", 8L * 13, 8L * 13), (plan.Kernel, plan.WorkItems, plan.Counters));
    }

    /// <summary>Few sequences: the driver copies 4 KB of parameter a launch. Many: 32. Very many: tables are the device's, and it is 4 again. What is compiled ahead is both.</summary>
    [Theory]
    [InlineData(2, 4096)]
    [InlineData(64, CallBlock.LongParameterBytes)]
    [InlineData(400, 4096)]
    public void Decoding_has_a_kernel_for_tables_of_either_length(int sequences, int bytes)
    {
        int[] queries = [.. Enumerable.Repeat(1, sequences)], keys = [.. Enumerable.Repeat(1000, sequences)];
        AttentionProblem problem = ShapeProblem.Sequences<Half, Half>(new AttentionShape(1, 1, 1, 8, 2, 128, 128), queries, keys, 16, AttentionOptions.Default);
        CudaPlan plan = CudaPlan.Of(problem, Device, isAligned: true, copies: DecodeCopies.Async);
        Assert.Equal(bytes, BytesOf(plan.FunctionAt(0)));
        Assert.Equal([4096, CallBlock.LongParameterBytes], plan.Functions.Select(BytesOf).Order());

        // A driver that knows nothing of long parameters.
        CudaPlan old = CudaPlan.Of(problem, Device with { DriverVersion = CallBlock.FirstLongDriver - 10 }, isAligned: true, copies: DecodeCopies.Async);
        Assert.Equal(4096, BytesOf(Assert.Single(old.Functions)));

        static int BytesOf(KernelFunction function) =>
            int.Parse(Regex.Match(function.Text, @"\.b8 call\[(?<bytes>\d+)\]", RegexOptions.ExplicitCapture, TimeSpan.FromSeconds(5)).Groups["bytes"].ValueSpan, CultureInfo.InvariantCulture);
    }

    [Fact]
    public void Mixed_batches_get_both_kernels_and_no_merge()
    {
        AttentionProblem problem = ShapeProblem.Sequences<Half, Half>(new AttentionShape(1, 1, 1, 8, 2, 128, 128), [1, 100, 0, 1], [5000, 100, 7, 0], 16, AttentionOptions.Default);
        CudaPlan plan = CudaPlan.Of(problem, Device, isAligned: true);
        Assert.Equal(("prefill + decode", 2), (plan.Kernel, plan.Launches));
        Assert.Equal(["prefill_wgmma", "decode_tma", "decode_tma"], plan.Functions.Select(static function => function.EntryPoint), StringComparer.Ordinal);

        // 4 blocks of 128 rows; 10 splits, and one item for the sequence without keys.
        Assert.Equal((4 + 10 + 1) * 2, plan.WorkItems);
        Assert.Equal((10 * 2 * 4) + WarpgroupBinding.SchedulerWords, plan.Counters);
        Assert.Contains("merged by the last", plan.Details, StringComparison.Ordinal);
    }

    [Fact]
    public void Small_tables_are_inline_and_large_ones_staged()
    {
        CudaPlan small = Paged(8, 500, 12000), behind = Paged(64, 500, 12010), large = Paged(64, 500, 12000), larger = Paged(200, 500, 12010);
        Assert.True(small.HasInlineTables);
        Assert.Equal(0, small.StagedBytes);
        Assert.Equal(0, small.ScratchBytes);
        Assert.Contains("in the launch's parameters", small.Details, StringComparison.Ordinal);
        Assert.True(behind.HasInlineTables);
        Assert.False(larger.HasInlineTables);
        Assert.False(large.HasInlineTables);
        Assert.Equal((64 * 80) + (64 * 32) + (64 * 32 * 4), large.StagedBytes);
        Assert.Equal(large.StagedBytes, large.ScratchBytes);
        Assert.Contains("copied to the device", large.Details, StringComparison.Ordinal);

        static CudaPlan Paged(int sequences, int keys, int driver) => CudaPlan.Of(
            ShapeProblem.Sequences<Half, Half>(
                new AttentionShape(1, 1, 1, 8, 2, 128), [.. Enumerable.Repeat(1, sequences)], [.. Enumerable.Repeat(keys, sequences)], 16, AttentionOptions.Default),
            Device with { DriverVersion = driver },
            isAligned: true);
    }

    [Fact]
    public void An_empty_call_does_nothing()
    {
        CudaPlan plan = Plan<Half, Half>(new(1, 0, 100, 8, 2, 64));
        Assert.Equal(("none", 0L, 0L, 0), (plan.Kernel, plan.WorkItems, plan.ScratchBytes, plan.Launches));
    }

    /// <summary>A prefill with a mask function has a launch ahead of it, and a byte a tile for each of its items, or for each of their heads where it asks for the head.</summary>
    [Fact]
    public void A_mask_function_is_asked_ahead_of_a_prefill()
    {
        var options = new AttentionOptions { MaskFunction = MaskFunction.Of(new DocumentMask(new int[4096])) };
        CudaPlan plan = Plan<Half, Half>(new(1, 4096, 4096, 8, 2, 64), options), plain = Plan<Half, Half>(new(1, 4096, 4096, 8, 2, 64));
        Assert.Equal((1, 2, "map_tiles"), (plan.MapLaunches, plan.Launches, plan.FunctionAt(0).EntryPoint));
        Assert.Contains("a launch ahead asks the mask function", plan.Details, StringComparison.Ordinal);
        Assert.Equal((0, 1), (plain.MapLaunches, plain.Launches));
        Assert.DoesNotContain("mask function", plain.Details, StringComparison.Ordinal);
        CudaPlan byHead = Plan<Half, Half>(new(1, 4096, 4096, 8, 2, 64), new AttentionOptions { MaskFunction = MaskFunction.Of(new ListedByHead(new ScoreTable(new float[8 * 4096], 8, 4096))) });
        Assert.Equal(2 * (plan.ScratchBytes - plain.ScratchBytes), byHead.ScratchBytes - plain.ScratchBytes);

        CudaPlan decoded = Plan<Half, Half>(new(1, 1, 4096, 8, 2, 64), options);
        Assert.Equal((0, 1), (decoded.MapLaunches, decoded.Launches));
    }

    [Fact]
    public void What_no_kernel_takes_is_named()
    {
        Assert.Contains("up to 1024; the key dimension is 1025", Refused(new(1, 1, 1, 1, 1, 1025, 64)), StringComparison.Ordinal);
        Assert.Contains("65536", Refused(new(1, 1, 1, 65536, 65536, 8)), StringComparison.Ordinal);
        Assert.Contains("the CUDA kernels compute in 32 bits", Refused(new(1, 1, 1, 2, 2, 64), new AttentionOptions { Scale = 1025 }), StringComparison.Ordinal);
        Assert.Equal("The CUDA kernels take functions with up to 16 tables and 64 parameters in a call; the call's have 17 and 0: ManyTables and PrefixMask.", Refused(new(1, 1, 1, 2, 2, 64), new AttentionOptions
        {
            ScoreFunction = ScoreFunction.Of(new ManyTables([.. Enumerable.Range(0, 16).Select(static n => new ScoreTable([n]))])),
            MaskFunction = MaskFunction.Of(new PrefixMask(new ScoreTable([3]))),
        }));
        Assert.Contains("Q8Block; of 8 bits the CUDA kernels take Int8 and Float8E4M3", Assert.Throws<NotSupportedException>(static () => Plan<Half, Q8Block>(new(1, 1, 9, 2, 2, 64))).Message, StringComparison.Ordinal);

        static string Refused(AttentionShape shape, AttentionOptions? options = null) => Assert.Throws<NotSupportedException>(() => Plan<Half, Half>(shape, options)).Message;
    }

    [Theory]
    [InlineData(232448, "None")]
    [InlineData(166912, "None")]
    [InlineData(101376, "None")]
    [InlineData(232448, "Bias")]
    [InlineData(101376, "Bias, Mask")]
    [InlineData(232448, "Mask")]
    [InlineData(101376, "Mask")]
    public void Tiles_fit_the_shared_memory_of_all_devices(int sharedMemory, string has)
    {
        CallFeatures features = Enum.Parse<CallFeatures>(has);
        bool hasMask = features.HasFlag(CallFeatures.Mask);
        CudaDeviceDescription device = Device with { MaxSharedMemory = sharedMemory };
        for (int keyDim = 8; keyDim <= 264; keyDim += 8)
        {
            for (int valueDim = 8; valueDim <= 264; valueDim += 8)
            {
                Assert.Equal(keyDim is >= 16 and <= 256 && valueDim is >= 16 and <= 256, TileTable.Prefill(keyDim, valueDim, device, features) is not null);
                if (TileTable.Prefill(keyDim, valueDim, device, features) is PrefillTile prefill)
                {
                    Assert.InRange(prefill.SharedBytes(keyDim, valueDim, hasMask) * prefill.Blocks, 1, sharedMemory);
                    Assert.InRange(prefill.Rows, 64, 128);
                }

                Assert.Equal(TileTable.HasMatrixDims(keyDim, valueDim), TileTable.Decode(keyDim, valueDim, device) is not null);
                if (TileTable.Decode(keyDim, valueDim, device) is DecodeTile decode) Assert.InRange(decode.SharedBytes(keyDim, valueDim) * decode.Blocks, 1, sharedMemory);
            }
        }
    }

    /// <summary>Whatever a plan names can be written, with its entry point.</summary>
    [Theory]
    [InlineData(64, 64)]
    [InlineData(128, 128)]
    [InlineData(24, 40)]
    [InlineData(192, 128)]
    [InlineData(256, 256)]
    [InlineData(100, 33)]
    [InlineData(576, 512)]
    public void Functions_have_texts(int keyDim, int valueDim)
    {
        AttentionOptions options = new() { Mask = AttentionMask.CausalWindow(70), AlibiSlopes = AlibiSlopes.ForHeads(8), SinkLogits = [.. Enumerable.Range(0, 8)], SoftCap = 30 };
        const OperandKinds Operands = OperandKinds.BooleanMask | OperandKinds.BiasFloat16 | OperandKinds.LogSumExp;
        foreach (int? blockSize in (int?[])[null, 16, 17])
        {
            AttentionProblem problem = ShapeProblem.Sequences<Half, Half>(new(1, 1, 1, 8, 2, keyDim, valueDim), [1, 50], [3000, 70], blockSize, options, Operands);
            foreach (bool isAligned in (bool[])[true, false])
            {
                foreach (KernelFunction function in CudaPlan.Of(problem, Device, isAligned).Functions)
                    Assert.Contains($".entry {function.EntryPoint}", function.Text, StringComparison.Ordinal);
            }
        }
    }

    /// <summary>One object a specialisation: whoever looks for loaded code compares references.</summary>
    [Fact]
    public void Equal_calls_have_the_same_functions()
    {
        Assert.Same(Plan<Half, Half>(new(1, 1, 70, 8, 2, 64)).Functions[0], Plan<Half, Half>(new(3, 1, 90, 16, 4, 64)).Functions[0]);
        Assert.NotSame(Plan<Half, Half>(new(1, 1, 70, 8, 2, 64)).Functions[0], Plan<Half, Half>(new(1, 1, 70, 8, 2, 80)).Functions[0]);
        Assert.NotSame(Plan<Half, Half>(new(1, 1, 70, 8, 2, 64)).Functions[0], Plan<Half, Half>(new(1, 1, 70, 8, 2, 64), new AttentionOptions { SoftCap = 3 }).Functions[0]);
    }

    private static AttentionProblem Problem<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions options)
        where TQuery : unmanaged
        where TKeyValue : unmanaged => ShapeProblem.Dense<TQuery, TKeyValue>(shape, options);

    private static CudaPlan Plan<TQuery, TKeyValue>(in AttentionShape shape, AttentionOptions? options = null)
        where TQuery : unmanaged
        where TKeyValue : unmanaged => CudaPlan.Of(Problem<TQuery, TKeyValue>(shape, options ?? AttentionOptions.Default), Device, isAligned: true);
}

/// <summary>A sum over as many tables as it is given.</summary>
internal readonly struct ManyTables(ScoreTable[] tables) : IScoreFunction
{
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        foreach (ScoreTable table in tables) score += table.At(at.Key);
        return score;
    }
}
