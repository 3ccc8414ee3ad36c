using System.Runtime.InteropServices;
using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>Plans without running them: which kernel, how many items, how much memory, how the work is cut into command buffers.</summary>
public sealed class MetalPlanTests
{
    private static readonly MetalDeviceDescription Device = new("Test", 7, 32768, 1L << 33, HasKnownLaneMap: true);

    [Theory]
    [InlineData(64, 64, 100, 100, false, "prefill")]
    [InlineData(64, 64, 1, 100, false, "decode")]
    [InlineData(64, 64, 8, 100, false, "decode")]
    [InlineData(64, 64, 9, 100, false, "prefill")]
    [InlineData(64, 64, 1, 100, true, "prefill")]
    [InlineData(100, 100, 100, 100, false, "plain")]
    [InlineData(576, 512, 1, 5000, false, "plain")]
    [InlineData(80, 80, 1, 100, false, "decode")]
    [InlineData(200, 200, 1, 100, false, "plain")]
    [InlineData(200, 200, 99, 100, false, "prefill")]
    public void Kernel_follows_from_dimensions_and_rows(int keyDim, int valueDim, int queries, int keys, bool rowInvariant, string kernel)
    {
        Assert.Equal(kernel, Plan(new AttentionShape(1, queries, keys, 8, 2, keyDim, valueDim), new AttentionOptions { RowInvariant = rowInvariant }).Kernel);
    }

    [Fact]
    public void Without_the_known_lane_map_there_is_no_prefill_kernel()
    {
        AttentionProblem problem = ShapeProblem.Dense<Half, Half>(new AttentionShape(1, 100, 100, 8, 2, 64, 64), AttentionOptions.Default);
        Assert.Equal("plain", MetalPlan.Of(problem, Device with { HasKnownLaneMap = false }).Kernel);
    }

    /// <summary>The other kernels find a tile's keys by 32-bit distances from its first.</summary>
    [Theory]
    [InlineData(0, "prefill")]
    [InlineData(1, "plain")]
    public void Keys_that_lie_farther_apart_than_32_bits_reach_are_the_plain_kernels(int beyond, string kernel)
    {
        AttentionProblem problem = ShapeProblem.Dense<Half, Half>(new AttentionShape(1, 100, 100, 8, 2, 64, 64), AttentionOptions.Default);
        problem.ValueTokenStride = TileTable.MostTokenStride + beyond;
        Assert.True((TileTable.MostTokenStride * 31) + 256 <= int.MaxValue);
        MetalPlan plan = MetalPlan.Of(problem, Device);
        Assert.Equal(kernel, plan.Kernel);
        Assert.Equal(beyond > 0, plan.Details.Contains("elements apart", StringComparison.Ordinal));
    }

    [Fact]
    public void Mixed_batches_get_both_kernels()
    {
        AttentionProblem problem = ShapeProblem.Sequences<Half, Half>(new AttentionShape(1, 1, 1, 8, 2, 128, 128), [1, 100, 0, 1], [5000, 100, 7, 0], 16, AttentionOptions.Default);
        MetalPlan plan = MetalPlan.Of(problem, Device);
        Assert.Equal("prefill + decode", plan.Kernel);
        Assert.Equal(3, plan.Functions.Length);

        // 13 blocks of 32 rows; 20 splits, and one item for the sequence without keys; one merge of 4 rows.
        Assert.Equal((13 + 20 + 1 + 1) * 2, plan.WorkItems);
        Assert.Contains("splits", plan.Details, StringComparison.Ordinal);
    }

    [Fact]
    public void An_empty_call_does_nothing()
    {
        MetalPlan plan = Plan(new AttentionShape(1, 0, 100, 8, 2, 64, 64), AttentionOptions.Default);
        Assert.Equal(("none", 0L, 0L), (plan.Kernel, plan.WorkItems, plan.ScratchBytes));
    }

    [Fact]
    public void Dimensions_that_no_kernel_takes_are_named()
    {
        var exception = Assert.Throws<NotSupportedException>(() => Plan(new AttentionShape(1, 1, 1, 1, 1, 1025, 64), AttentionOptions.Default));
        Assert.Contains("1025", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Blocks_of_8_bits_are_refused()
    {
        AttentionProblem problem = ShapeProblem.Dense<float, Q8Block>(new AttentionShape(1, 1, 9, 2, 2, 64), AttentionOptions.Default);
        Assert.Contains("Q8Block; of 8 bits the Metal kernels take", Assert.Throws<NotSupportedException>(() => MetalPlan.Of(problem, Device)).Message, StringComparison.Ordinal);
    }

    /// <summary>Codes are staged as halves, so they have the tiles of those, with two scales a key beside them, but for dimensions where two blocks of rows would take too many registers.</summary>
    [Theory]
    [InlineData(AttentionElementType.Float16)]
    [InlineData(AttentionElementType.Float32)]
    public void Codes_have_the_tiles_of_halves(AttentionElementType query)
    {
        for (int dim = 32; dim <= 256; dim += 8)
        {
            if (query == AttentionElementType.Float16 ? dim is 72 or 80 : dim is 56 or 64) continue;
            PrefillTile halves = TileTable.Prefill(dim, dim, query, AttentionElementType.Float16)!.Value;
            foreach (AttentionElementType codes in (AttentionElementType[])[AttentionElementType.Int8, AttentionElementType.Float8E4M3])
                Assert.Equal(halves with { ThreadgroupBytes = halves.ThreadgroupBytes + (halves.Keys * 2 * sizeof(float)) }, TileTable.Prefill(dim, dim, query, codes));
        }
    }

    /// <summary>The device has no double precision, in which the CPU computes such calls.</summary>
    [Theory]
    [InlineData(8.6e-19f, 0f, 0f, "scale is 8.6E-19", "2^-60 to 2^10")]
    [InlineData(1025f, 0f, 0f, "scale is 1025", "2^-60 to 2^10")]
    [InlineData(1f, 9e-13f, 0f, "SoftCap is 9E-13", "2^-40 to 2^60")]
    [InlineData(1f, 1.2e18f, 0f, "SoftCap is 1.2E+18", "2^-40 to 2^60")]
    [InlineData(1f, 0f, -1.2e18f, "AlibiSlopes[1] is -1.2E+18", "2^60")]
    public void Numbers_beyond_the_float_range_are_refused(float scale, float softCap, float slope, string what, string limits)
    {
        var options = new AttentionOptions { Scale = scale, SoftCap = softCap, AlibiSlopes = slope == 0 ? default : [0, slope] };
        var exception = Assert.Throws<NotSupportedException>(() => Plan(new AttentionShape(1, 1, 1, 2, 2, 64, 64), options));
        Assert.Contains(what, exception.Message, StringComparison.Ordinal);
        Assert.Contains(limits, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Functions_that_have_captured_too_much_are_refused()
    {
        ScoreFunction Of(int functions) => Enumerable.Range(0, functions)
            .Select(static n => ScoreFunction.Of(new LinearBias(new ScoreTable([n, n])))).Aggregate(static (first, next) => first.Then(next));
        var shape = new AttentionShape(1, 1, 1, 2, 2, 64, 64);
        Assert.Equal(2, Plan(shape, new AttentionOptions { ScoreFunction = Of(16) }).WorkItems);
        string message = Assert.Throws<NotSupportedException>(() => Plan(shape, new AttentionOptions { ScoreFunction = Of(12), MaskFunction = MaskFunction.Of(new PrefixMask(new ScoreTable([1]))).And(Listed(4)) })).Message;
        Assert.StartsWith("The Metal kernels take functions with up to 16 tables and 64 parameters in a call; the call's have 17 and 0: LinearBias", message, StringComparison.Ordinal);

        static MaskFunction Listed(int masks) => Enumerable.Range(0, masks)
            .Select(static n => MaskFunction.Of(new PrefixMask(new ScoreTable([n])))).Aggregate(static (first, next) => first.And(next));
    }

    [Fact]
    public void The_ends_of_the_float_range_are_taken() => Assert.Equal(
        2,
        Plan(
            new AttentionShape(1, 1, 1, 2, 2, 64, 64),
            new AttentionOptions { Scale = FloatRange.SmallestScale, SoftCap = FloatRange.LargestSoftCap, AlibiSlopes = [FloatRange.LargestSlope, 0] }).WorkItems);

    [Fact]
    public void Threadgroup_memory_stays_within_the_budget_for_all_dimensions()
    {
        foreach (AttentionElementType type in (AttentionElementType[])[.. Elements.Wide, AttentionElementType.Int8])
        {
            for (int keyDim = 8; keyDim <= 256; keyDim += 8)
            {
                for (int valueDim = 8; valueDim <= 256; valueDim += 8)
                {
                    bool isPrefill = keyDim >= 32 && valueDim >= 32;
                    Assert.Equal(isPrefill, TileTable.Prefill(keyDim, valueDim, type, type) is not null);
                    if (isPrefill) Assert.InRange(TileTable.Prefill(keyDim, valueDim, type, type)!.Value.ThreadgroupBytes, 1, TileTable.MemoryBudget);
                    if (TileTable.Decode(keyDim, valueDim, type) is DecodeTile decode) Assert.InRange(decode.ThreadgroupBytes, 1, TileTable.MemoryBudget);
                    else Assert.False(keyDim % 32 == 0 && keyDim == valueDim, $"{keyDim} should be decoded.");
                }
            }
        }
    }

    /// <summary>A long call is cut into command buffers; together their launches cover every item once.</summary>
    [Theory]
    [InlineData(200_000, 200_000)]
    [InlineData(40_000, 1_000)]
    public void Command_buffers_are_bounded_and_cover_all_items(int queries, int keys)
    {
        AttentionProblem problem = ShapeProblem.Dense<Half, Half>(new AttentionShape(1, queries, keys, 32, 8, 128, 128), new AttentionOptions { Mask = AttentionMask.Causal });
        const double Budget = 1e12;
        MetalPlan plan = MetalPlan.Of(problem, Device, budget: Budget);
        using EmulatedRuntime runtime = MetalProblems.Start();
        using var transient = new TransientMemory(runtime);
        using DeviceMemory memory = runtime.Allocate(16);
        var place = new MemoryPlace(memory, 0);
        LaunchList launchList = plan.Bind(problem, new CallMemory(place, place, place, place), transient, []);
        KernelLaunch[][] submissions = [.. Enumerable.Range(0, launchList.Count).Select(i => launchList[i].ToArray())];

        double work = 2.0 * problem.AllowedPairs() * 32 * 256;
        Assert.InRange(submissions.Length, Math.Max(1, work / Budget * 0.9), (work / Budget * 1.2) + 2);
        Assert.All(submissions, launches => Assert.InRange(launches.Sum(static launch => launch.Cost), 1, Budget));
        Assert.Equal(work, submissions.Sum(static launches => launches.Sum(static launch => launch.Cost)), work * 0.1);
        var rows = new HashSet<int>();
        foreach (KernelLaunch launch in submissions.SelectMany(launches => launches))
        {
            BufferBinding items = launch.Buffers.Single(buffer => buffer.Index == BufferSlot.Items);
            var span = MemoryMarshal.Cast<byte, WorkItem>(((EmulatedMemory)items.Memory).Span[(int)items.Offset..])[..(int)launch.Threadgroups.X];
            foreach (WorkItem item in span)
            {
                for (int row = item.FirstRow; row < item.EndRow; row++) Assert.True(rows.Add(row), $"Row {row} is in two items.");
            }
        }

        Assert.Equal(queries * 4, rows.Count);
        Assert.Equal(plan.WorkItems, submissions.Sum(launches => launches.Sum(launch => (long)launch.Threadgroups.Count)));
    }

    private static MetalPlan Plan(in AttentionShape shape, AttentionOptions options) => MetalPlan.Of(ShapeProblem.Dense<Half, Half>(shape, options), Device);
}

/// <summary>What the kernels declare, beside what the table says.</summary>
public sealed class ThreadgroupMemoryTests
{
    /// <summary>Index into the specialisations of <see cref="MetalProblems"/>, and then into those of codes.</summary>
    public static TheoryData<int> Specialisations => [.. Enumerable.Range(0, All.Length)];

    private static (AttentionElementType Query, AttentionElementType KeyValue, int KeyDim, int ValueDim)[] All => [.. MetalProblems.Specialisations, .. MetalEightBitTests.Specialisations];

    [Theory]
    [MemberData(nameof(Specialisations))]
    public void Kernels_declare_as_much_threadgroup_memory_as_the_table_says(int specialisation)
    {
        using EmulatedRuntime runtime = MetalProblems.Start();
        (AttentionElementType query, AttentionElementType keyValue, int keyDim, int valueDim) = All[specialisation];
        var problem = new AttentionProblem { QueryType = query, KeyValueType = keyValue, KeyDim = keyDim, ValueDim = valueDim };
        if (TileTable.Prefill(keyDim, valueDim, query, keyValue) is PrefillTile prefill) AssertBytes(AttentionKernel.Prefill, prefill.ThreadgroupBytes);
        if (TileTable.Decode(keyDim, valueDim, keyValue) is DecodeTile decode) AssertBytes(AttentionKernel.Decode, decode.ThreadgroupBytes);
        AssertBytes(AttentionKernel.Plain, 0);

        void AssertBytes(AttentionKernel family, int expected)
        {
            KernelFunction function = KernelLibrary.Main(family, KernelTraits.Of(problem, isAligned: true));
            Assert.InRange(runtime.Library(function).ThreadgroupBytes(function.Name), expected, expected + 32);
        }
    }
}
