using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using FusedAttention.Scores.Tracing;
using Xunit;

namespace FusedAttention.Cuda.Tests.Assembly;

/// <summary>What is assembled, on file: a change of a kernel or of the emitter shows as a difference to be read. The smallest of each kernel.</summary>
public sealed class SnapshotTests
{
    private const string Folder = "tests/FusedAttention.Cuda.Tests/Snapshots";

    [Fact]
    public void Text_of_a_plain_kernel() => Snapshot.AssertOnFile(
        Folder, "plain-float32-bfloat16-12-5.ptx",
        PlainKernel.Write(
            new(AttentionElementType.Float32, AttentionElementType.BFloat16, 12, 5, CallFeatures.Mask | CallFeatures.Bias | CallFeatures.Alibi | CallFeatures.SoftCap | CallFeatures.Sinks | CallFeatures.LogSumExp, 3, AttentionElementType.Float16),
            TileTable.PlainWarps).ToString());

    /// <summary>A score function that looks a table up and takes a parameter, and a mask function.</summary>
    [Fact]
    public void Text_of_a_plain_kernel_with_functions()
    {
        ScoreForm score = ScoreFunction.Of(new LinearBias(new([1f, 2f])).Then(new Tempered(2))).Graph.Form, keep = MaskFunction.Of(new HeadRemainder(3)).Graph.Form;
        Snapshot.AssertOnFile(
            Folder, "plain-functions-float16-8-8.ptx",
            PlainKernel.Write(new(AttentionElementType.Float16, AttentionElementType.Float16, 8, 8, CallFeatures.ScoreFunction | CallFeatures.MaskFunction, 0, default) { Score = score, Keep = keep }, TileTable.PlainWarps).ToString());
    }

    /// <summary>Two warps instead of four, two stages: less of the same.</summary>
    [Fact]
    public void Text_of_a_decode() => Snapshot.AssertOnFile(
        Folder, "decode-bfloat16-16-16.ptx",
        DecodeKernel.Write(new(AttentionElementType.BFloat16, AttentionElementType.BFloat16, 16, 16, CallFeatures.Aligned | CallFeatures.LogSumExp, 16, default), new DecodeTile(Warps: 2, Keys: 16, Stages: 2, Blocks: 1)).ToString());

    /// <summary>Four warps, since places in boxes go by four; two stages.</summary>
    [Fact]
    public void Text_of_a_decode_by_boxes() => Snapshot.AssertOnFile(
        Folder, "decode-tma-float16-16-16.ptx",
        DecodeKernel.Write(new(AttentionElementType.Float16, AttentionElementType.Float16, 16, 16, CallFeatures.Aligned, 0, default), new DecodeTile(Warps: 4, Keys: 16, Stages: 2, Blocks: 1, HasBoxes: true)).ToString());

    /// <summary>With tiles of 16 keys.</summary>
    [Fact]
    public void Text_of_a_prefill() => Snapshot.AssertOnFile(
        Folder, "prefill-float16-16-16.ptx",
        PrefillKernel.Write(new(AttentionElementType.Float16, AttentionElementType.Float16, 16, 16, CallFeatures.Aligned, 0, default), new PrefillTile(Warps: 4, RowsOfWarp: 16, Keys: 16, Blocks: 1)).ToString());

    /// <summary>With tiles of 16 keys.</summary>
    [Fact]
    public void Text_of_a_prefill_by_warpgroups() => Snapshot.AssertOnFile(
        Folder, "prefill-wgmma-bfloat16-16-16.ptx",
        WarpgroupPrefillKernel.Write(
            new(AttentionElementType.BFloat16, AttentionElementType.BFloat16, 16, 16, CallFeatures.Aligned, 0, default),
            new WarpgroupTile(Consumers: 2, Keys: 16, QueryStages: 2, SeesAll: false, ProducerRegisters: 40, ConsumerRegisters: 232)).ToString());

    [Fact]
    public void Text_of_merging() => Snapshot.AssertOnFile(Folder, "merge-float16-bfloat16.ptx", MergePlan.Function(AttentionElementType.Float16, AttentionElementType.BFloat16).Text);

    [Fact]
    public void Text_of_checking_block_tables() => Snapshot.AssertOnFile(Folder, "check-tables.ptx", TablePlan.Function.Text);

    [Fact]
    public void Text_of_writing_the_cache() => Snapshot.AssertOnFile(Folder, "append-float32-float16.ptx", CachePlan.Function(AttentionElementType.Float32, AttentionElementType.Float16).Text);

    [Theory]
    [InlineData(AttentionElementType.Float32, AttentionElementType.Int8)]
    [InlineData(AttentionElementType.BFloat16, AttentionElementType.Float8E4M3)]
    [InlineData(AttentionElementType.Int8, AttentionElementType.Int8)]
    public void Text_of_writing_a_cache_of_8_bits(AttentionElementType source, AttentionElementType stored) =>
        Snapshot.AssertOnFile(Folder, $"append-{source}-{stored}.ptx".ToLowerInvariant(), CachePlan.Function(source, stored).Text);
}

/// <summary>A temperature that changes from call to call.</summary>
internal readonly struct Tempered(ScoreParameter factor) : IScoreFunction
{
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
        => score * factor;
}
