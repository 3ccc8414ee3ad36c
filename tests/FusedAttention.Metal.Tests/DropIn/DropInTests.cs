using FusedAttention.Metal.DropIn;
using FusedAttention.Metal.Emulation;
using FusedAttention.Metal.Planning;
using Xunit;

namespace FusedAttention.Metal.Tests.DropIn;

/// <summary>The drop-in file under a host that knows nothing but the originals' interface, against double precision, in all orders of threads.</summary>
public sealed class DropInTests
{
    [Theory]
    [InlineData("fused_attention", 6, 2, 64, 70, 70, 1, true, true)]        // the rest of a division by 64, slopes of 6 heads
    [InlineData("fused_attention_f16", 12, 12, 128, 5, 41, 1, true, false)] // slopes of 12 heads, more keys than queries
    [InlineData("fused_attention", 4, 1, 128, 130, 33, 0, false, true)]
    [InlineData("fused_attention_f16", 2, 2, 80, 66, 90, 2, false, false)]  // a tail in vectors
    [InlineData("fused_attention", 3, 1, 37, 9, 50, 1, false, false)]       // a tail of single elements
    [InlineData("fused_attention", 3, 3, 101, 9, 20, 2, true, false)]
    [InlineData("fused_attention_f16", 2, 1, 64, 40, 7, 1, false, false)]   // rows before the first key
    [InlineData("fused_attention", 2, 1, 4, 3, 2, 0, true, false)]
    public void One_sequence_is_right(string kernel, int heads, int keyValueHeads, int dim, int queries, int keys, int causal, bool hasAlibi, bool roundsDown)
    {
        Problem problem = Dense(heads, keyValueHeads, dim, queries, keys, causal, hasAlibi);
        using var host = new DropInHost { RoundsDown = roundsDown };
        host.Dense(kernel, problem, (uint)causal).AssertClose(problem, RowByRow.Solve(problem));
    }

    [Theory]
    [InlineData(64, 1, true)]
    [InlineData(128, 0, false)]
    public void A_batch_is_right(int dim, int causal, bool hasAlibi)
    {
        Problem problem = Dense(6, 3, dim, 65, 40, causal, hasAlibi, batch: 3);
        using var host = new DropInHost { RoundsDown = true };
        host.Dense("fused_attention_batched", problem, (uint)causal).AssertClose(problem, RowByRow.Solve(problem));
    }

    [Theory]
    [InlineData(1, 64, 0)]
    [InlineData(16, 128, 1)]
    [InlineData(64, 40, 0)]
    [InlineData(100, 128, 1)]
    [InlineData(24, 33, 0)]
    public void Paged_sequences_are_right(int blockSize, int dim, int causal)
    {
        int[] contexts = [1, 0, 37, 333, 64];
        Problem problem = Paged(blockSize, dim, contexts);
        Solution expected = RowByRow.Solve(problem);
        using var host = new DropInHost();
        host.Paged(problem, contexts, (uint)causal).AssertClose(problem, expected);
        host.Paged(problem, contexts, (uint)causal, tableStride: 350, passesStride: true).AssertClose(problem, expected);
    }

    /// <summary>For hosts that page the tokens of one sequence: the sequence's number is the query's.</summary>
    [Fact]
    public void Paged_causal_2_hides_what_comes_after_the_sequence_number()
    {
        Problem problem = Paged(16, 64, [1, 2, 3, 4]);
        using var host = new DropInHost();
        host.Paged(problem, [4, 4, 4, 4], causal: 2).AssertClose(problem, RowByRow.Solve(problem));
    }

    [Fact]
    public void Paged_sequences_end_before_the_first_block_that_is_not_there()
    {
        Problem problem = Paged(16, 64, [48, 20, 48]);
        using var host = new DropInHost();
        host.Paged(problem, [60, 20, 48], tableStride: 5, passesStride: true, missing: 3).AssertClose(problem, RowByRow.Solve(problem));
    }

    /// <summary>A context beyond the row of its table would read the next sequence's.</summary>
    [Fact]
    public void A_table_that_is_shorter_than_its_context_ends_it()
    {
        Problem problem = Paged(16, 64, [32, 32]);
        using var host = new DropInHost();
        host.Paged(problem, [32, 32], tableStride: 2, saysMore: 1).AssertClose(problem, RowByRow.Solve(problem));
    }

    /// <summary>Scores of a scale that is not positive cannot be compared before they are scaled. A negative one is that of negative keys, and one that is as good as none makes averages.</summary>
    [Theory]
    [InlineData(-0.25f, 0.25f, -1)]
    [InlineData(0f, 1e-12f, 1)]
    [InlineData(1e-30f, 1e-12f, 1)]
    public void Any_scale_will_do(float scale, float same, float sign)
    {
        Problem problem = Dense(2, 1, 64, 10, 20, 0, hasAlibi: false);
        Problem alike = problem with { Options = problem.Options with { Scale = same }, Key = [.. problem.Key.Select(key => key.Select(x => sign * x).ToArray())] };
        using var host = new DropInHost();
        host.Dense("fused_attention", problem, 0, scale).AssertClose(alike, RowByRow.Solve(alike));
    }

    [Fact]
    public void Larger_threadgroups_and_grids_make_no_difference()
    {
        Problem problem = Dense(4, 2, 64, 70, 45, 1, hasAlibi: true);
        using DropInHost usual = new(), large = new() { Threads = 512, Spare = 2 };
        CallResult expected = usual.Dense("fused_attention", problem, 1);
        expected.AssertSameBits(large.Dense("fused_attention", problem, 1), "512 threads");
        Problem paged = Paged(16, 64, [40, 7]);
        usual.Paged(paged, [40, 7]).AssertSameBits(large.Paged(paged, [40, 7]), "paged, 512 threads");
    }

    /// <summary>What cannot be computed must not look like a result.</summary>
    [Theory]
    [InlineData(132, 256)]
    [InlineData(64, 128)]
    public void What_is_not_for_these_kernels_is_NaN(int dim, int threads)
    {
        Problem problem = Dense(2, 1, dim, 3, 5, 0, hasAlibi: false);
        using var host = new DropInHost { Threads = (uint)threads };
        Assert.All(host.Dense("fused_attention", problem, 0).Output[0], x => Assert.True(float.IsNaN(x)));
        Problem paged = Paged(4, dim, [9]);
        Assert.All(host.Paged(paged, [9]).Output[0], x => Assert.True(float.IsNaN(x)));
    }

    [Fact]
    public void Names_slots_and_structures_are_the_originals()
    {
        using var host = new DropInHost();
        Assert.Equal(["fused_attention", "fused_attention_f16", "fused_attention_batched", "paged_attention"], host.Library.Kernels.Select(kernel => kernel.Name), StringComparer.Ordinal);
        string[] dense = ["half 0", "half 1", "half 2", "half 3", "FusedAttentionParams 4"];
        Assert.Equal(dense, Slots("fused_attention"));
        Assert.Equal(dense, Slots("fused_attention_f16"));
        Assert.Equal([.. dense, "uint 5"], Slots("fused_attention_batched"));
        Assert.Equal(["half 0", "half 1", "half 2", "uint 3", "uint 4", "half 5", "PagedAttentionParams 6"], Slots("paged_attention"));

        Dictionary<string, (RecordField[] Fields, int Size)> records = RecordLayouts.Of(host.Text, ["FusedAttentionParams", "PagedAttentionParams"]);
        Assert.Equal(
            ["uint num_heads 0", "uint num_kv_heads 4", "uint head_dim 8", "uint seq_len 12", "uint kv_len 16", "float scale 20", "uint causal 24", "uint use_alibi 28"],
            Fields("FusedAttentionParams"));
        Assert.Equal(
            ["uint num_heads 0", "uint num_kv_heads 4", "uint head_dim 8", "uint block_size 12", "uint num_blocks 16", "float scale 20", "uint causal 24", "uint table_stride 28"],
            Fields("PagedAttentionParams"));

        string[] Slots(string kernel) => [.. host.Library.Kernel(kernel).Buffers.Select(argument => $"{argument.Type.Split(' ').First(word => word.Trim('&', '*') is not ("device" or "const" or "constant" or "__global" or "__constant" or "")).TrimEnd('&', '*')} {argument.Slot}")];
        string[] Fields(string name) => [.. records[name].Fields.Select(field => $"{field.Type} {field.Name} {field.Offset}")];
    }

    /// <summary>The originals asked for 33,792 bytes of the 32,768 that there are; shader validation doubles a kernel's use.</summary>
    [Fact]
    public void Threadgroup_memory_is_within_the_budget()
    {
        using var host = new DropInHost();
        Assert.Contains($" {host.Library.ThreadgroupBytes("fused_attention")} bytes of threadgroup memory", host.Text, StringComparison.Ordinal);
        foreach (KernelSignature kernel in host.Library.Kernels) Assert.InRange(host.Library.ThreadgroupBytes(kernel.Name), 1, TileTable.MemoryBudget);
    }

    [Fact]
    public void Text_keeps_to_the_rules() => Assert.Empty(TextLint.Check("drop_in.metal", DropInHost.TextOf()));

    [Theory]
    [InlineData(0)]
    [InlineData(65)]
    [InlineData(264)]
    public void Head_dimensions_without_a_tile_are_refused(int dim) => Assert.Throws<ArgumentException>(() => DropInSource.Compose(64, dim));

    /// <summary>The file as it is without a choice of dimensions; the largest dimension's, and one of 32 keys a tile, if everything is asked for.</summary>
    public static TheoryData<string> LintedHeadDims => MetalProblems.IsWhole ? ["64,128", "96,256"] : ["64,128"];

    [Slow]
    [Theory]
    [MemberData(nameof(LintedHeadDims))]
    public void Compiled_text_keeps_to_the_rules(string headDims)
    {
        Assert.SkipWhen(EmulatorToolchain.SkipReason is not null, EmulatorToolchain.SkipReason ?? "");
        string[] problems = CompiledLint.Check(DropInHost.TextOf([.. headDims.Split(',').Select(int.Parse)]));
        Assert.True(problems.Length == 0, string.Join('\n', problems));
    }

    [Slow]
    [Theory]
    [InlineData(nameof(EmulatorFlavour.Address))]
    [InlineData(nameof(EmulatorFlavour.Memory))]
    [InlineData(nameof(EmulatorFlavour.FastMath))]
    public void Kernels_are_sound(string name)
    {
        using var host = new DropInHost(Enum.Parse<EmulatorFlavour>(name), 64) { RoundsDown = true };
        foreach ((int dim, bool hasAlibi) in ((int, bool)[])[(64, true), (64, false), (37, false)])
        {
            Problem problem = Dense(3, 1, dim, 66, 40, 1, hasAlibi, batch: 2);
            host.Dense("fused_attention_batched", problem, 1).AssertClose(problem, RowByRow.Solve(problem));
            Problem paged = Paged(10, dim, [1, 0, 75]);
            host.Paged(paged, [1, 0, 75]).AssertClose(paged, RowByRow.Solve(paged));
        }
    }

    private static Problem Dense(int heads, int keyValueHeads, int dim, int queries, int keys, int causal, bool hasAlibi, int batch = 1) => new ProblemGenerator(dim + queries).Fill(new Problem
    {
        Name = "drop-in",
        Form = CallForm.Dense,
        QueryType = AttentionElementType.Float16,
        KeyValueType = AttentionElementType.Float16,
        Heads = heads,
        KeyValueHeads = keyValueHeads,
        KeyDim = dim,
        ValueDim = dim,
        QueryLengths = [.. Enumerable.Repeat(queries, batch)],
        KeyLengths = [.. Enumerable.Repeat(keys, batch)],
        KeyCapacity = keys,
        Query = [],
        Key = [],
        Value = [],
        Options = new AttentionOptions
        {
            Mask = causal == 0 ? AttentionMask.Full : AttentionMask.Causal,
            Alignment = causal == 2 ? AttentionAlignment.TopLeft : AttentionAlignment.BottomRight,
            AlibiSlopes = hasAlibi ? AlibiSlopes.ForHeads(heads) : [],
        },
    });

    private static Problem Paged(int blockSize, int dim, int[] keys) => new ProblemGenerator(dim + blockSize).Fill(new Problem
    {
        Name = "drop-in, paged",
        Form = CallForm.Paged,
        QueryType = AttentionElementType.Float16,
        KeyValueType = AttentionElementType.Float16,
        Heads = 6,
        KeyValueHeads = 2,
        KeyDim = dim,
        ValueDim = dim,
        BlockSize = blockSize,
        QueryLengths = [.. keys.Select(_ => 1)],
        KeyLengths = keys,
        Query = [],
        Key = [],
        Value = [],
    });
}
