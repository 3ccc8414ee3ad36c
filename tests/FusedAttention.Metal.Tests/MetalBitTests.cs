using FusedAttention.Devices;
using FusedAttention.Metal.Emulation;
using Xunit;

namespace FusedAttention.Metal.Tests;

/// <summary>A row's bits depend on its query, its own keys, the options and the kernel: not on neighbours, layout in memory, block size or the order of blocks.</summary>
public sealed class MetalBitTests
{
    public static TheoryData<int> Seeds => [.. Enumerable.Range(1, 12)];

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Neighbours_in_the_batch_do_not_change_a_bit(int seed)
    {
        Problem problem = MetalProblems.Generator(210_000 + seed).NextProblem(allowsOperands: false);
        CallResult together = MetalProblems.Run(problem);
        for (int s = 0; s < problem.Sequences; s++)
        {
            CallResult alone = MetalProblems.Run(problem.Only(s));
            CallResult.AssertSameBits(together.Output[s], alone.Output[0], $"sequence {s} alone, {problem}");
            CallResult.AssertSameBits(together.LogSumExp![s], alone.LogSumExp![0], $"log-sum-exp of sequence {s} alone, {problem}");
        }
    }

    /// <summary>Among the arrangements are some whose strides allow no vector loads.</summary>
    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Layout_in_memory_does_not_change_a_bit(int seed)
    {
        ProblemGenerator generator = MetalProblems.Generator(211_000 + seed);
        Problem problem = generator.NextProblem();
        CallResult plain = MetalProblems.Run(problem);
        for (int i = 0; i < 2; i++)
        {
            Arrangement arrangement = generator.NextArrangement();
            MetalProblems.Run(problem, arrangement).AssertSameBits(plain, $"{arrangement}, {problem}");
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Dense_packed_and_paged_calls_agree_for_every_block_size_and_order(int seed)
    {
        Problem dense = MetalProblems.Generator(212_000 + seed).NextProblem(allowsOperands: false).AsDense();
        CallResult expected = MetalProblems.Run(dense);
        MetalProblems.Run(dense with { Form = CallForm.Packed }).AssertSameBits(expected, $"packed against {dense}");
        int order = seed;
        foreach (int blockSize in (int[])[1, 3, 16, 17, 256])
        {
            Problem paged = dense with { Form = CallForm.Paged, BlockSize = blockSize };
            MetalProblems.Run(paged, new Arrangement { BlockSeed = ++order, SpareBlocks = order % 4 }).AssertSameBits(expected, $"blocks of {blockSize}, order {order}, against {dense}");
        }
    }

    /// <summary>One query, or a few, over a context that is split: whole splits, remainders, windows that begin inside one.</summary>
    [Slow]
    [Theory]
    [InlineData(1, 255, 8, 2, null)]
    [InlineData(1, 256, 8, 8, null)]
    [InlineData(1, 257, 8, 1, null)]
    [InlineData(3, 1000, 4, 1, 300)]
    [InlineData(2, 1537, 5, 5, 512)]
    [InlineData(4, 700, 16, 2, null)]
    public void Split_contexts_do_not_change_a_bit(int queries, int keys, int heads, int keyValueHeads, int? window)
    {
        ProblemGenerator generator = MetalProblems.Generator(keys + heads);
        Problem problem = generator.Fill(new Problem
        {
            Name = "split decode",
            Form = CallForm.Dense,
            QueryType = AttentionElementType.Float16,
            KeyValueType = AttentionElementType.Float16,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            KeyDim = 64,
            ValueDim = 64,
            QueryLengths = [queries, queries],
            KeyLengths = [keys, 300],
            KeyCapacity = Math.Max(keys, 300),
            PassesKeyLengths = true,
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions { Mask = window is int left ? AttentionMask.CausalWindow(left) : AttentionMask.Causal },
        });
        Solution solution = RowByRow.Solve(problem);
        foreach (AttentionKernel family in (AttentionKernel[])[AttentionKernel.Decode, AttentionKernel.Plain])
        {
            using EmulatedRuntime runtime = MetalProblems.Start();
            var caller = new MetalCaller(runtime, family);
            CallResult expected = Caller.Run(problem, null, caller);
            expected.AssertClose(problem, solution);
            Assert.Contains(caller.Plans[0].Functions, function => string.Equals(function.Name, "merge_splits", StringComparison.Ordinal));
            for (int s = 0; s < 2; s++) CallResult.AssertSameBits(expected.Output[s], Caller.Run(problem.Only(s), null, caller).Output[0], $"sequence {s} alone");
            Caller.Run(problem with { Form = CallForm.Packed }, null, caller).AssertSameBits(expected, "packed");
            foreach (int blockSize in (int[])[17, 128]) Caller.Run(problem with { Form = CallForm.Paged, BlockSize = blockSize }, null, caller).AssertSameBits(expected, $"blocks of {blockSize}");
        }
    }

    /// <summary>With RowInvariant a prefill has the same bits whole, in chunks, and token by token.</summary>
    [Slow]
    [Theory]
    [InlineData(64, 4, 2, "causal")]
    [InlineData(64, 3, 1, "window")]
    [InlineData(100, 2, 1, "alibi")]
    [InlineData(64, 6, 2, "cap and sinks")]
    [InlineData(208, 2, 1, "causal")]
    public void Chunks_of_a_row_invariant_prefill_do_not_change_a_bit(int dim, int heads, int keyValueHeads, string features)
    {
        const int Queries = 75;
        Problem whole = new ProblemGenerator(dim + heads).Fill(new Problem
        {
            Name = features,
            Form = CallForm.Packed,
            QueryType = AttentionElementType.Float16,
            KeyValueType = AttentionElementType.Float16,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            KeyDim = dim,
            ValueDim = dim == 100 ? 33 : dim,
            QueryLengths = [Queries],
            KeyLengths = [Queries + 20],
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions
            {
                Mask = features is "window" ? AttentionMask.CausalWindow(30) : AttentionMask.Causal,
                AlibiSlopes = features is "alibi" ? AlibiSlopes.ForHeads(heads) : default,
                SoftCap = features is "cap and sinks" ? 20 : 0,
                SinkLogits = features is "cap and sinks" ? [.. Enumerable.Range(0, heads).Select(h => h * 0.5f)] : default,
                RowInvariant = true,
            },
        });
        CallResult expected = MetalProblems.Run(whole);
        int row = heads * whole.ValueDim;
        foreach (int[] cuts in (int[][])[[0, 1, 2, 3, 20, 52, 53, 75], [0, 32, 64, 75], [0, 74, 75]])
        {
            for (int c = 0; c + 1 < cuts.Length; c++)
            {
                CallResult chunk = MetalProblems.Run(whole.Chunk(cuts[c], cuts[c + 1]));
                CallResult.AssertSameBits(expected.Output[0].AsSpan(cuts[c] * row, (cuts[c + 1] - cuts[c]) * row), chunk.Output[0], $"{features}, queries {cuts[c]} to {cuts[c + 1]}");
            }
        }
    }
}
