using FusedAttention.Cuda.Planning;
using FusedAttention.Devices;
using Xunit;

namespace FusedAttention.Cuda.Tests.Gpu;

/// <summary>A row's bits depend on its query, its own keys, the options and the kernel: not on the run, neighbours, layout in memory, block size, capacity or the order of blocks.</summary>
public abstract class BitTests
{
    private protected BitTests(TestDevice device) => Problems = new(device);

    private GpuProblems Problems { get; }

    /// <summary>Queries, keys, query and key/value heads, dimensions: prefills, decodes in many splits, both at once, and what only the plain kernel takes.</summary>
    public static TheoryData<int, int, int, int, int, string> Repeated => new()
    {
        { 300, 700, 8, 2, 128, "Float16" },
        { 129, 129, 6, 6, 64, "BFloat16" },
        { 70, 333, 3, 1, 256, "Float16" },
        { 1, 9000, 8, 1, 128, "Float16" },
        { 1, 5001, 40, 8, 64, "BFloat16" },
        { 2, 3000, 8, 1, 256, "BFloat16" },
        { 3, 700, 4, 4, 100, "Float16" },
        { 40, 200, 2, 1, 80, "Float32" },
    };

    [Theory]
    [MemberData(nameof(Repeated))]
    public void Many_runs_have_the_same_bits(int queries, int keys, int heads, int keyValueHeads, int dim, string type)
    {
        using var caller = new GpuCaller(Problems.Open()) { Times = Problems.Target.Times(200) };
        Problem problem = ProblemOf(queries, keys, heads, keyValueHeads, dim, Enum.Parse<AttentionElementType>(type));
        GpuProblems.AssertClose(GpuProblems.Run(problem, null, caller), problem, RowByRow.Solve(problem), kernel: null);
    }

    [Fact]
    public void Neighbours_in_the_batch_do_not_change_a_bit() => Problems.ForEach(Enumerable.Range(0, 70), (configuration, stream) =>
    {
        using GpuCaller caller = new(stream.Device, null, stream);
        for (int n = 0; n < 3; n++)
        {
            Problem problem = GpuConfiguration.Next(configuration, 610_001 + (configuration * 100) + n).Problem with { Mask = null, Bias = null };
            CallResult together = GpuProblems.Run(problem, null, caller);
            for (int s = 0; s < problem.Sequences; s++)
            {
                CallResult alone = GpuProblems.Run(problem.Only(s), null, caller);
                CallResult.AssertSameBits(together.Output[s], alone.Output[0], $"sequence {s} alone, {problem}");
                CallResult.AssertSameBits(together.LogSumExp![s], alone.LogSumExp![0], $"log-sum-exp of sequence {s} alone, {problem}");
            }
        }
    });

    /// <summary>Orders of dimensions, gaps and spare blocks, as long as rows begin where vectors can be loaded: without that the plain kernel has the call, and other last bits.</summary>
    [Fact]
    public void Layout_in_memory_does_not_change_a_bit() => Problems.ForEach(Enumerable.Range(0, 70), (configuration, stream) =>
    {
        using GpuCaller caller = new(stream.Device, null, stream), plain = new(stream.Device, AttentionKernel.Plain, stream);
        for (int n = 0; n < 3; n++)
        {
            (Problem problem, Arrangement any, int shift, ProblemGenerator generator) = GpuConfiguration.Next(configuration, 611_001 + (configuration * 100) + n);
            TensorOrder[] orders = [TensorOrder.Contiguous, TensorOrder.HeadMajor, TensorOrder.TokenFirst, TensorOrder.PackedSlice];
            Arrangement vectors = any with { Query = generator.Pick(orders), Key = generator.Pick(orders), Value = generator.Pick(orders), Output = generator.Pick(orders) };
            CallResult expected = GpuProblems.Run(problem, null, caller);
            GpuProblems.Run(problem, vectors, caller).AssertSameBits(expected, $"{vectors}, {problem}");
            expected = GpuProblems.Run(problem, null, plain);
            plain.Shift = shift;
            GpuProblems.Run(problem, any, plain).AssertSameBits(expected, $"plain kernel, shifted by {shift} elements, {any}, {problem}");
            plain.Shift = 0;
        }
    });

    [Fact]
    public void Dense_packed_and_paged_calls_agree_for_every_block_size_and_order() => Problems.ForEach(Enumerable.Range(0, 35), (configuration, stream) =>
    {
        using GpuCaller caller = new(stream.Device, null, stream);
        Problem dense = (GpuConfiguration.Next(configuration, 612_001 + configuration).Problem with { Mask = null, Bias = null }).AsDense();
        CallResult expected = GpuProblems.Run(dense, null, caller);
        GpuProblems.Run(dense with { KeyCapacity = dense.KeyCapacity + 24 }, null, caller).AssertSameBits(expected, $"more capacity, against {dense}");
        GpuProblems.Run(dense with { Form = CallForm.Packed }, null, caller).AssertSameBits(expected, $"packed against {dense}");
        int order = configuration;
        foreach (int blockSize in (int[])[1, 3, 16, 64])
        {
            Problem paged = dense with { Form = CallForm.Paged, BlockSize = blockSize };
            GpuProblems.Run(paged, new Arrangement { BlockSeed = ++order, SpareBlocks = order % 4 }, caller).AssertSameBits(expected, $"blocks of {blockSize}, order {order}, against {dense}");
        }
    });

    /// <summary>One query, or a few, over a context that is split: whole splits, remainders, windows that begin inside one.</summary>
    [Theory]
    [InlineData(1, 511, 8, 2, null)]
    [InlineData(1, 1024, 8, 8, null)]
    [InlineData(1, 1025, 8, 1, null)]
    [InlineData(3, 4000, 4, 1, 900)]
    [InlineData(2, 3073, 5, 5, 1500)]
    [InlineData(1, 20_000, 40, 1, null)]
    [InlineData(4, 7000, 16, 4, null)]
    public void Split_contexts_do_not_change_a_bit(int queries, int keys, int heads, int keyValueHeads, int? window)
    {
        using var caller = new GpuCaller(Problems.Open(AttentionKernel.Decode), AttentionKernel.Decode);
        Problem one = ProblemOf(queries, keys, heads, keyValueHeads, 64, AttentionElementType.Float16);
        Problem other = ProblemOf(queries, 1300, heads, keyValueHeads, 64, AttentionElementType.Float16);
        Problem problem = one with
        {
            QueryLengths = [queries, queries],
            KeyLengths = [keys, 1300],
            KeyCapacity = Math.Max(keys, 1300),
            PassesKeyLengths = true,
            Query = [one.Query[0], other.Query[0]],
            Key = [one.Key[0], other.Key[0]],
            Value = [one.Value[0], other.Value[0]],
            Options = new AttentionOptions { Mask = window is int left ? AttentionMask.CausalWindow(left) : AttentionMask.Causal },
        };
        CallResult expected = GpuProblems.Run(problem, null, caller);
        Assert.True(caller.PartialRows > 0, $"no splits: {problem}");
        GpuProblems.AssertClose(expected, problem, RowByRow.Solve(problem), AttentionKernel.Decode);
        for (int s = 0; s < 2; s++) CallResult.AssertSameBits(expected.Output[s], GpuProblems.Run(problem.Only(s), null, caller).Output[0], $"sequence {s} alone, {problem}");
        GpuProblems.Run(problem with { Form = CallForm.Packed }, null, caller).AssertSameBits(expected, $"packed, {problem}");
        foreach (int blockSize in (int[])[1, 17, 64]) GpuProblems.Run(problem with { Form = CallForm.Paged, BlockSize = blockSize }, null, caller).AssertSameBits(expected, $"blocks of {blockSize}, {problem}");
    }

    /// <summary>
    /// What an item takes of a sequence follows from the whole call, so whole sequences, groups and splits have the same bits: also where windows begin inside a group, where groups are longer than the least, where sums are kept in
    /// shared memory, and with special values beside a sink that takes all the weight.
    /// </summary>
    [Theory]
    [InlineData(1, 9000, 8, 2, 128, "Float16", "full")]
    [InlineData(3, 5200, 4, 1, 64, "BFloat16", "window")]
    [InlineData(1, 4700, 20, 1, 80, "Float16", "alibi")]
    [InlineData(2, 3000, 8, 1, 256, "Float16", "full")]
    [InlineData(1, 2600, 3, 1, 72, "BFloat16", "specials")]
    [InlineData(1, 5000, 2, 1, 256, "Float16", "specials")]
    [InlineData(1, 140_000, 1, 1, 16, "Float16", "full")]
    public void Items_of_any_size_do_not_change_a_bit(int queries, int keys, int heads, int keyValueHeads, int dim, string type, string features)
    {
        using var caller = new GpuCaller(Problems.Open(AttentionKernel.Decode), AttentionKernel.Decode);
        Problem problem = ProblemOf(queries, keys, heads, keyValueHeads, dim, Enum.Parse<AttentionElementType>(type)) with
        {
            Options = new AttentionOptions
            {
                Mask = features is "window" ? AttentionMask.CausalWindow(3000) : AttentionMask.Causal,
                AlibiSlopes = features is "alibi" ? AlibiSlopes.ForHeads(heads) : default,
                SinkLogits = features is "specials" ? [.. Enumerable.Range(0, heads).Select(static h => h == 1 ? 300f : 1)] : default,
            },
        };
        if (features is "specials")
        {
            problem = HiddenKeyProblems.WithValues(
                problem,
                [(3, 0, float.PositiveInfinity), (700, 5, float.NegativeInfinity), (keys - 1, 5, float.NegativeInfinity), (2100, 9, float.PositiveInfinity), (keys - 2, 70, float.NegativeInfinity)],
                isZero: false);
        }

        var results = new List<(ItemKeys Items, CallResult Result, long Rows)>();
        foreach (ItemKeys items in Enum.GetValues<ItemKeys>())
        {
            caller.Items = items;
            results.Add((items, GpuProblems.Run(problem, null, caller), caller.PartialRows));
        }

        Assert.Equal(0, results[0].Rows);
        Assert.True(results[1].Rows > 0 && results[2].Rows >= results[1].Rows);
        foreach ((ItemKeys items, CallResult result, _) in results) result.AssertSameBits(results[0].Result, $"items of {items}, {problem}");
        if (features is not "specials") GpuProblems.AssertClose(results[0].Result, problem, RowByRow.Solve(problem), AttentionKernel.Decode);
    }

    /// <summary>
    /// Who copies keys and values does not show: with dense, packed and paged keys, boxes of a whole tile and of eight rows, items of every size, windows that begin and end inside a tile, columns that fill no box, values that are seen
    /// and special, and such as are not seen beside every window's edges.
    /// </summary>
    [Theory]
    [InlineData(1, 2300, 8, 2, 128, 128, "Float16", "full")]
    [InlineData(3, 1950, 4, 1, 64, 64, "BFloat16", "window")]
    [InlineData(1, 700, 20, 1, 80, 40, "Float16", "alibi")]
    [InlineData(2, 1100, 8, 1, 256, 256, "Float16", "full")]
    [InlineData(1, 1300, 3, 1, 64, 128, "BFloat16", "specials")]
    [InlineData(5, 1200, 3, 1, 192, 128, "Float16", "specials")]
    [InlineData(4, 1200, 2, 1, 72, 24, "Float16", "hidden")]
    [InlineData(1, 63, 4, 4, 16, 16, "Float16", "full")]
    public void Copies_of_either_kind_do_not_change_a_bit(int queries, int keys, int heads, int keyValueHeads, int keyDim, int valueDim, string type, string features)
    {
        CudaDevice device = Problems.Open(AttentionKernel.Decode);
        Assert.SkipUnless(device.Description is { Major: 9, Minor: 0 }, "The copy unit has boxes from compute capability 9.0 on.");
        using GpuCaller warps = new(device, AttentionKernel.Decode) { Copies = DecodeCopies.Async }, unit = new(device, AttentionKernel.Decode) { Copies = DecodeCopies.Boxes };
        Problem problem = ProblemOf(queries, keys, heads, keyValueHeads, keyDim, valueDim, Enum.Parse<AttentionElementType>(type)) with
        {
            Options = new AttentionOptions
            {
                Mask = features is "window" or "hidden" ? AttentionMask.CausalWindow(300) : AttentionMask.Causal,
                AlibiSlopes = features is "alibi" ? AlibiSlopes.ForHeads(heads) : default,
            },
        };
        if (features is "specials")
            problem = HiddenKeyProblems.WithValues(problem, [(3, 0, float.PositiveInfinity), (keys / 2, 5, float.NegativeInfinity), (keys - 1, 5, float.NegativeInfinity), (keys - 70, 9, float.PositiveInfinity)], isZero: false);
        if (features is "hidden")
            problem = HiddenKeyProblems.WithValues(problem, [.. Enumerable.Range(keys - 300 - 200, 190).Select(static key => (key, key % 24, float.NaN))], isZero: false);
        CallResult? expected = null;
        foreach (ItemKeys items in Enum.GetValues<ItemKeys>())
        {
            (warps.Items, unit.Items) = (items, items);
            foreach ((CallForm form, int blockSize) in ((CallForm, int)[])[(CallForm.Dense, 16), (CallForm.Packed, 16), (CallForm.Paged, 16), (CallForm.Paged, 64), (CallForm.Paged, 24), (CallForm.Paged, 256)])
            {
                Problem one = problem with { Form = form, BlockSize = blockSize };
                expected ??= GpuProblems.Run(one, null, warps);
                GpuProblems.Run(one, new Arrangement { BlockSeed = blockSize, SpareBlocks = 2 }, unit).AssertSameBits(expected, $"{form}, blocks of {blockSize}, items of {items}, {problem}");
                Assert.Equal("decode_tma", unit.EntryPoint);
            }
        }

        Assert.Equal("decode", warps.EntryPoint);
        if (features is not "specials") GpuProblems.AssertClose(expected!, problem, RowByRow.Solve(problem), AttentionKernel.Decode);
    }

    /// <summary>With RowInvariant a prefill has the same bits whole, in chunks, and token by token.</summary>
    [Theory]
    [InlineData(64, 4, 2, "causal")]
    [InlineData(128, 3, 1, "window")]
    [InlineData(100, 2, 1, "alibi")]
    [InlineData(256, 6, 2, "cap and sinks")]
    public void Chunks_of_a_row_invariant_prefill_do_not_change_a_bit(int dim, int heads, int keyValueHeads, string features)
    {
        const int Queries = 275;
        using var caller = new GpuCaller(Problems.Open());
        Problem whole = ProblemOf(Queries, Queries + 20, heads, keyValueHeads, dim, AttentionElementType.Float16) with
        {
            Form = CallForm.Packed,
            Options = new AttentionOptions
            {
                Mask = features is "window" ? AttentionMask.CausalWindow(30) : AttentionMask.Causal,
                AlibiSlopes = features is "alibi" ? AlibiSlopes.ForHeads(heads) : default,
                SoftCap = features is "cap and sinks" ? 20 : 0,
                SinkLogits = features is "cap and sinks" ? [.. Enumerable.Range(0, heads).Select(h => h * 0.5f)] : default,
                RowInvariant = true,
            },
        };
        CallResult expected = GpuProblems.Run(whole, null, caller);
        int row = heads * whole.ValueDim;
        foreach (int[] cuts in (int[][])[[0, 1, 2, 3, 20, 52, 53, 175, Queries], [0, 32, 64, Queries], [0, Queries - 1, Queries], [.. Enumerable.Range(0, Queries + 1).Where(static i => i < 40 || i % 60 < 2 || i == Queries)]])
        {
            for (int c = 0; c + 1 < cuts.Length; c++)
            {
                CallResult chunk = GpuProblems.Run(whole.Chunk(cuts[c], cuts[c + 1]), null, caller);
                CallResult.AssertSameBits(expected.Output[0].AsSpan(cuts[c] * row, (cuts[c + 1] - cuts[c]) * row), chunk.Output[0], $"{features}, queries {cuts[c]} to {cuts[c + 1]} of {whole}");
            }
        }
    }

    internal static Problem ProblemOf(int queries, int keys, int heads, int keyValueHeads, int dim, AttentionElementType type) => ProblemOf(queries, keys, heads, keyValueHeads, dim, dim, type);

    private static Problem ProblemOf(int queries, int keys, int heads, int keyValueHeads, int keyDim, int valueDim, AttentionElementType type) => new ProblemGenerator(queries + keys + keyDim).Fill(new Problem
    {
        Name = "one sequence",
        Form = CallForm.Dense,
        QueryType = type,
        KeyValueType = type,
        Heads = heads,
        KeyValueHeads = keyValueHeads,
        KeyDim = keyDim,
        ValueDim = valueDim,
        BlockSize = 16,
        QueryLengths = [queries],
        KeyLengths = [keys],
        KeyCapacity = keys,
        Query = [],
        Key = [],
        Value = [],
        Options = new AttentionOptions { Mask = AttentionMask.Causal },
    });
}
