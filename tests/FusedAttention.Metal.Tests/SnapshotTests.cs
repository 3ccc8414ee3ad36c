using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Launching;
using FusedAttention.Metal.Planning;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>What is compiled, planned and explained, on file: a change shows as a difference to be read.</summary>
public sealed class SnapshotTests
{
    private const string Folder = "tests/FusedAttention.Metal.Tests/Snapshots";

    private static readonly MetalDeviceDescription Device = new("Test", 9, 32768, 1L << 33, HasKnownLaneMap: true);

    private static readonly AttentionOptions Everything = new()
    {
        Mask = AttentionMask.CausalWindow(70),
        AlibiSlopes = AlibiSlopes.ForHeads(8),
        SinkLogits = [.. Enumerable.Range(0, 8)],
        SoftCap = 30,
    };

    [Fact]
    public void Text_of_a_prefill() => AssertText("prefill-float16-128.metal", AttentionKernel.Prefill, Traits<Half, Half>(128, 128));

    [Fact]
    public void Text_of_a_decode() => AssertText("decode-float32-bfloat16-80-40.metal", AttentionKernel.Decode, Traits<float, BFloat16>(80, 40));

    [Fact]
    public void Text_of_a_plain_kernel() => AssertText("plain-float32-100-33.metal", AttentionKernel.Plain, Traits<float, float>(100, 33));

    /// <summary>A score and a mask function, with tables, a parameter and what a row may ask of a key twice.</summary>
    [Theory]
    [InlineData(nameof(AttentionKernel.Prefill))]
    [InlineData(nameof(AttentionKernel.Decode))]
    [InlineData(nameof(AttentionKernel.Plain))]
    public void Text_of_functions(string kernel) => AssertText(kernel.ToLowerInvariant() + "-functions.metal", Enum.Parse<AttentionKernel>(kernel), Traits<Half, Half>(64, 64, Functions));

    /// <summary>Without a score function scores stay in units of the scale, and rows are not asked for products again.</summary>
    [Fact]
    public void Text_of_a_mask_function() => AssertText("plain-mask-function.metal", AttentionKernel.Plain, Traits<float, float>(64, 64, new() { MaskFunction = MaskFunction.Of(new DilatedWindow(40, 3)) }));

    /// <summary>Keys and values of 8 bits: with a mask function, without infinities to look for, and the cache's kernel.</summary>
    [Fact]
    public void Text_of_codes()
    {
        AssertText("prefill-float16-int8-64-mask-function.metal", AttentionKernel.Prefill, Traits<Half, sbyte>(64, 64, new() { MaskFunction = MaskFunction.Of(new DilatedWindow(40, 3)) }));
        AssertText("decode-bfloat16-e4m3-128.metal", AttentionKernel.Decode, Traits<BFloat16, Float8E4M3>(128, 128));
        AssertText("plain-float32-int8-100-33.metal", AttentionKernel.Plain, Traits<float, sbyte>(100, 33));
        Snapshot.AssertOnFile(Folder, "quantize-float16-e4m3.metal", KernelSource.Compose(CachePlan.Functions(new CacheShape(AttentionElementType.Float8E4M3, 1, 1, 1)).Single(static function => function.Definitions.Contains(new("SOURCE_T", "half")))));
    }

    [Fact]
    public void Explanation_of_codes() => AssertExplained("explain-codes.txt", device => MetalAttention.Explain<Half, Float8E4M3>(
        device, new AttentionShape(1, 1, 1, 32, 8, 128), [1, 100], [5000, 100], blockSize: 16, new AttentionOptions { Mask = AttentionMask.Causal }, OperandKinds.KeyScale | OperandKinds.ValueScale));

    [Fact]
    public void Plan_of_a_causal_prefill() => AssertPlan(
        "plan-causal-prefill.txt",
        ShapeProblem.Dense<Half, Half>(new AttentionShape(2, 40, 100, 8, 2, 128), new AttentionOptions { Mask = AttentionMask.Causal }));

    [Fact]
    public void Plan_of_a_packed_batch() => AssertPlan(
        "plan-packed-batch.txt",
        ShapeProblem.Sequences<float, Half>(new AttentionShape(1, 1, 1, 8, 2, 64), [1, 33, 0, 2, 1], [1000, 100, 7, 300, 0], null, new AttentionOptions { Mask = AttentionMask.Causal }));

    [Fact]
    public void Plan_of_what_only_the_plain_kernel_takes() => AssertPlan(
        "plan-plain.txt",
        ShapeProblem.Dense<float, float>(
            new AttentionShape(1, 3, 600, 8, 8, 100, 33), Everything, OperandKinds.BooleanMask | OperandKinds.BiasFloat16 | OperandKinds.LogSumExp));

    [Fact]
    public void Explanation_of_a_prefill() => AssertExplained("explain-prefill.txt", device =>
        MetalAttention.Explain<Half, Half>(device, new AttentionShape(2, 512, 1024, 8, 2, 64), new AttentionOptions { Mask = AttentionMask.Causal }));

    [Fact]
    public void Explanation_of_a_mixed_paged_batch() => AssertExplained("explain-paged.txt", device =>
        MetalAttention.Explain<float, Half>(device, new AttentionShape(1, 1, 1, 32, 8, 128), [1, 100, 0, 1], [5000, 100, 7, 0], blockSize: 16, Everything with { AlibiSlopes = [], SinkLogits = [] }));

    [Fact]
    public void Explanation_of_row_invariance_on_tensors_that_begin_anywhere() => AssertExplained("explain-row-invariant-unaligned.txt", device =>
        MetalAttention.Explain<float, float>(device, new AttentionShape(1, 1, 3000, 8, 2, 64), new AttentionOptions { RowInvariant = true }, OperandKinds.Unaligned | OperandKinds.LogSumExp));

    [Fact]
    public void Explanation_of_functions() => AssertExplained("explain-functions.txt", device => MetalAttention.Explain<Half, Half>(device, new AttentionShape(1, 512, 512, 2, 2, 64), Functions));

    [Fact]
    public void Explanation_of_a_device_that_nobody_has_asked_yet()
    {
        using var runtime = new QuietRuntime { Device = Device with { HasKnownLaneMap = false } };
        Snapshot.AssertOnFile(Folder, "explain-unexamined.txt", MetalAttention.Explain<Half, Half>(new MetalDevice(runtime), new AttentionShape(1, 512, 512, 8, 2, 64)).ToString());
        Assert.Equal(0, runtime.Submitted);
    }

    private static AttentionOptions Functions { get; } = new()
    {
        ScoreFunction = ScoreFunction.Of(new LinearBias(new ScoreTable([0.5f, 0.25f])).Then(new TanhCap(50))),
        MaskFunction = MaskFunction.Of(new DocumentMask(new int[512]).And(new GlobalLocalMask(4, 30))),
    };

    private static KernelTraits Traits<TQuery, TKeyValue>(int keyDim, int valueDim, AttentionOptions? options = null)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
        => KernelTraits.Of(ShapeProblem.Dense<TQuery, TKeyValue>(new AttentionShape(1, 1, 1, 1, 1, keyDim, valueDim), options ?? AttentionOptions.Default), isAligned: true);

    private static void AssertText(string name, AttentionKernel kernel, KernelTraits traits) => Snapshot.AssertOnFile(Folder, name, KernelSource.Compose(KernelLibrary.Main(kernel, traits)));

    private static void AssertPlan(string name, AttentionProblem problem) => Snapshot.AssertOnFile(Folder, name, PlanText.Of(problem, Device));

    private static void AssertExplained(string name, Func<MetalDevice, AttentionExplanation> explain)
    {
        using var runtime = new QuietRuntime { Device = Device };
        Snapshot.AssertOnFile(Folder, name, explain(new MetalDevice(runtime)).ToString());
    }
}
