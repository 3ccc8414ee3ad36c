using Xunit;

namespace FusedAttention.Tests;

/// <summary>
/// A row's bits depend on its query, its own keys, the options, the instruction set and its own sequence's number of rows: not on threads,
/// neighbours in the batch, layout in memory, block size or the order of physical blocks.
/// </summary>
public sealed class BitIdentityTests
{
    /// <summary>Problems in a child process: fewer, because only its number of threads is new there, and eight threads on a core or two are slow.</summary>
    public const int ChildCases = 16;

    public static TheoryData<int> Seeds => [.. Enumerable.Range(10_001, ChildProcess.IsChild ? ChildCases : 40)];

    /// <summary>Every other problem is large enough for several threads, tiles and chunks of keys.</summary>
    private static ProblemGenerator Generator(int seed) => new(seed, isLarge: seed % 2 == 0);

    /// <summary>One query of 13 heads: read token by token where a token's heads lie together, and head by head where its tokens do. The same products, in the same order.</summary>
    [Theory]
    [InlineData(64)]
    [InlineData(128)]
    public void Order_of_heads_and_tokens_in_memory_does_not_change_a_bit(int dim)
    {
        SameBitsHeadMajor<float>(dim, x => x);
        SameBitsHeadMajor<Half>(dim, x => (Half)x);
        SameBitsHeadMajor<BFloat16>(dim, x => (BFloat16)x);
    }

    private static void SameBitsHeadMajor<T>(int dim, Func<float, T> convert)
        where T : unmanaged
    {
        const int Heads = 13;
        const int Keys = 301;
        var random = new Random(dim);
        float[] query = Draw(Heads * dim);
        T[] key = [.. Draw(Keys * Heads * dim).Select(convert)];
        T[] value = [.. Draw(Keys * Heads * dim).Select(convert)];
        var tokenMajor = new AttentionShape(1, 1, Keys, Heads, Heads, dim);
        var strides = new AttentionStrides(Keys * Heads * dim, dim, Keys * dim);
        AttentionShape headMajor = tokenMajor with { KeyStrides = strides, ValueStrides = strides };
        T[] keyByHead = ByHead(key);
        T[] valueByHead = ByHead(value);
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            var execution = new CpuExecution { InstructionSet = variant, MaxDegreeOfParallelism = 1 };
            float[] expected = new float[Heads * dim];
            float[] actual = new float[Heads * dim];
            Attention.Forward(query, key, value, expected, tokenMajor, execution: execution);
            Attention.Forward(query, keyByHead, valueByHead, actual, headMajor, execution: execution);
            Assert.Equal(expected.Select(BitConverter.SingleToInt32Bits), actual.Select(BitConverter.SingleToInt32Bits));
        }

        float[] Draw(int count) => [.. Enumerable.Range(0, count).Select(_ => (random.NextSingle() * 4) - 2)];

        T[] ByHead(T[] tokens)
        {
            var heads = new T[tokens.Length];
            for (int i = 0; i < tokens.Length; i++) heads[(i / dim % Heads * Keys * dim) + (i / dim / Heads * dim) + (i % dim)] = tokens[i];
            return heads;
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Threads_do_not_change_a_bit(int seed)
    {
        Problem problem = new ProblemGenerator(seed, isLarge: true).NextProblem();
        CallResult one = Run(problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = 1 } });
        foreach (int threads in (int[])[2, 3, 8])
        {
            Run(problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = threads } }).AssertSameBits(one, $"{threads} threads against 1, {problem}");
        }
    }

    /// <summary>A few queries over a long context: the keys are split, and the split must not know of threads, neighbours or blocks.</summary>
    [Slow]
    [Theory]
    [InlineData(1, 4000, 8, 8)]
    [InlineData(1, 1537, 8, 2)]
    [InlineData(3, 5000, 4, 1)]
    [InlineData(2, 2049, 5, 5)]
    public void Split_decodes_do_not_change_a_bit(int queries, int keys, int heads, int keyValueHeads)
    {
        var generator = new ProblemGenerator(keys);
        Problem problem = generator.Fill(new Problem
        {
            Name = "split decode",
            Form = CallForm.Dense,
            KeyValueType = AttentionElementType.Float16,
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            KeyDim = 64,
            ValueDim = 64,
            QueryLengths = [queries, queries],
            KeyLengths = [keys, 700],
            KeyCapacity = keys,
            PassesKeyLengths = true,
            Query = [],
            Key = [],
            Value = [],
            Options = new AttentionOptions { Mask = AttentionMask.CausalWindow(keys - 100) },
            Execution = new CpuExecution { MaxDegreeOfParallelism = 1 },
        });
        CallResult expected = Run(problem);
        CallResult.AssertSameBits(expected.Output[0], Run(problem.Only(0)).Output[0], "alone");
        CallResult.AssertSameBits(expected.Output[1], Run(problem.Only(1)).Output[0], "alone");
        foreach (int threads in (int[])[1, 2, 3, 8])
        {
            Problem threaded = problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = threads } };
            Run(threaded).AssertSameBits(expected, $"{threaded}");
            Run(threaded with { Form = CallForm.Packed }).AssertSameBits(expected, $"packed, {threaded}");
            foreach (int blockSize in (int[])[1, 17, 256]) Run(threaded with { Form = CallForm.Paged, BlockSize = blockSize }).AssertSameBits(expected, $"paged, {threaded}");
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Repetition_does_not_change_a_bit(int seed)
    {
        Problem problem = Generator(seed).NextProblem();
        Run(problem).AssertSameBits(Run(problem), $"the same call twice, {problem}");
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Neighbours_in_the_batch_do_not_change_a_bit(int seed)
    {
        Problem problem = Generator(seed).NextProblem(allowsOperands: false);
        CallResult together = Run(problem);
        for (int s = 0; s < problem.Sequences; s++)
        {
            CallResult alone = Run(problem.Only(s));
            CallResult.AssertSameBits(together.Output[s], alone.Output[0], $"sequence {s} alone, {problem}");
            CallResult.AssertSameBits(together.LogSumExp![s], alone.LogSumExp![0], $"log-sum-exp of sequence {s} alone, {problem}");
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Unused_key_capacity_does_not_change_a_bit(int seed)
    {
        Problem problem = Generator(seed).NextProblem(allowsOperands: false).AsDense().Only(0);
        int keys = problem.KeyLengths[0];
        CallResult exact = Run(problem with { KeyCapacity = keys, PassesKeyLengths = false });
        foreach (int spare in (int[])[0, 1, 50, 300])
        {
            Run(problem with { KeyCapacity = keys + spare, PassesKeyLengths = true }).AssertSameBits(exact, $"{spare} unused keys, {problem}");
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Layout_in_memory_does_not_change_a_bit(int seed)
    {
        var generator = Generator(seed);
        Problem problem = generator.NextProblem();
        CallResult plain = Run(problem);
        for (int i = 0; i < 4; i++)
        {
            Arrangement arrangement = generator.NextArrangement();
            Caller.Run(problem, arrangement).AssertSameBits(plain, $"{arrangement}, {problem}");
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Dense_packed_and_paged_calls_agree_for_every_block_size_and_order(int seed)
    {
        Problem dense = Generator(seed).NextProblem(allowsOperands: false).AsDense();
        CallResult expected = Run(dense);
        Run(dense with { Form = CallForm.Packed }).AssertSameBits(expected, $"packed against {dense}");
        int order = seed;
        foreach (int blockSize in (int[])[1, 2, 3, 16, 17, 256])
        {
            Problem paged = dense with { Form = CallForm.Paged, BlockSize = blockSize };
            for (int i = 0; i < 2; i++)
            {
                Caller.Run(paged, new Arrangement { BlockSeed = ++order, SpareBlocks = i * 3 }).AssertSameBits(expected, $"blocks of {blockSize}, order {order}, against {dense}");
            }
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Seeds))]
    public void Every_variant_keeps_these_promises(int seed)
    {
        Problem problem = Generator(seed).NextProblem(allowsOperands: false).AsDense();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            Problem one = problem with { Execution = problem.Execution with { InstructionSet = variant, MaxDegreeOfParallelism = 1 } };
            CallResult expected = Run(one);
            Run(one with { Execution = one.Execution with { MaxDegreeOfParallelism = 3 } }).AssertSameBits(expected, $"3 threads, {one}");
            Run(one with { Form = CallForm.Packed }).AssertSameBits(expected, $"packed, {one}");
            Run(one with { Form = CallForm.Paged, BlockSize = 5 }).AssertSameBits(expected, $"blocks of 5, {one}");
        }
    }

    private static CallResult Run(Problem problem) => Caller.Run(problem);
}
