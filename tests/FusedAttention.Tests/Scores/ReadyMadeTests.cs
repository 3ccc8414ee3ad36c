using Xunit;

namespace FusedAttention.Tests.Scores;

/// <summary>Functions that say what the library has built in give what that gives, and functions make what they promise of calls.</summary>
public sealed class ReadyMadeTests
{
    public static TheoryData<CpuInstructionSet, int> Calls()
    {
        var data = new TheoryData<CpuInstructionSet, int>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            foreach (int queries in (ReadOnlySpan<int>)[1, 5, 300]) data.Add(variant, queries);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public void A_linear_bias_is_ALiBi(CpuInstructionSet variant, int queries)
    {
        Problem problem = Dense(variant, queries);
        var slopes = AlibiSlopes.ForHeads(problem.Heads);

        AssertEqual(problem with { Options = problem.Options with { AlibiSlopes = slopes } }, WithScore(problem, ScoreFunction.Of(new LinearBias(new ScoreTable(slopes.AsSpan())))));
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public void A_cap_as_a_function_is_the_soft_cap(CpuInstructionSet variant, int queries)
    {
        Problem problem = Dense(variant, queries);

        AssertEqual(problem with { Options = problem.Options with { SoftCap = 2.5f } }, WithScore(problem, ScoreFunction.Of(new TanhCap(2.5f))));
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public void A_temperature_of_all_heads_is_the_scale(CpuInstructionSet variant, int queries)
    {
        Problem problem = Dense(variant, queries);
        float[] temperatures = [.. Enumerable.Repeat(0.5f, problem.Heads)];

        AssertEqual(problem with { Options = problem.Options with { Scale = problem.Scale * 0.5f } }, WithScore(problem, ScoreFunction.Of(new HeadTemperature(new ScoreTable(temperatures)))));
    }

    /// <summary>The same keys hidden in another way: the same bits, as everywhere.</summary>
    [Theory]
    [MemberData(nameof(Calls))]
    public void Windows_as_functions_have_the_bits_of_windows(CpuInstructionSet variant, int queries)
    {
        Problem problem = Dense(variant, queries);
        Problem full = problem with { Options = problem.Options with { Mask = AttentionMask.Full } };

        AssertSameBits(problem with { Options = problem.Options with { Mask = AttentionMask.SlidingWindow(40) } }, WithMask(full, MaskFunction.Of(new DilatedWindow(40, 1))));
        AssertSameBits(problem with { Options = problem.Options with { Mask = AttentionMask.Window(33, 33) } }, WithMask(full, MaskFunction.Of(new GlobalLocalMask(0, 33))));
        AssertSameBits(problem, WithMask(full, MaskFunction.Of(new PrefixMask(new ScoreTable([0, 0])))));
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public void Masks_as_functions_have_the_bits_of_mask_tensors(CpuInstructionSet variant, int queries)
    {
        Problem problem = Dense(variant, queries);
        int keys = problem.KeyCapacity;
        MaskFunction[] functions =
        [
            MaskFunction.Of(new DilatedWindow(9, 4, isTwoSided: true)),
            MaskFunction.Of(new GlobalLocalMask(5, 12)),
            MaskFunction.Of(new HeadRemainder(3)),
            MaskFunction.Of(new PrefixMask(new ScoreTable([20, 150])).And(new GlobalLocalMask(3, 90))),
            MaskFunction.Of(new DocumentMask(Documents(2, queries, 64), Documents(2, keys, 64))),
        ];
        foreach (MaskFunction function in functions)
        {
            bool[] mask = new bool[2 * problem.Heads * queries * keys];
            for (int n = 0; n < mask.Length; n++)
            {
                (int batch, int head, int query, int key) = (n / keys / queries / problem.Heads, n / keys / queries % problem.Heads, n / keys % queries, n % keys);
                mask[n] = function.Evaluate(batch, head, query, query + problem.Offset(batch), key);
            }

            AssertSameBits(problem with { Mask = new(mask, 2, problem.Heads, queries, keys) }, WithMask(problem, function));
        }
    }

    /// <summary>A tree's mask, as wide as the new tokens, and the tensor over all keys that says the same: dense, packed and in blocks, sequences of different lengths.</summary>
    [Theory]
    [MemberData(nameof(Calls))]
    public void A_mask_over_new_tokens_has_the_bits_of_one_over_all_keys(CpuInstructionSet variant, int queries)
    {
        Problem problem = new ProblemGenerator(queries).Fill(Dense(variant, queries) with { KeyLengths = [700, 311], PassesKeyLengths = true });
        int keys = problem.KeyCapacity, width = Math.Min(queries, 40);
        bool[] narrow = new bool[2 * queries * width], wide = new bool[2 * queries * keys];
        Array.Fill(wide, true);
        for (int row = 0; row < 2 * queries; row++)
        {
            for (int column = 0; column < width; column++)
            {
                narrow[(row * width) + column] = wide[(row * keys) + problem.KeyLengths[row / queries] - width + column] = ((row * 7) + (column * 5)) % 11 % 3 != 0;
            }
        }

        MaskFunction function = MaskFunction.Of(new NewTokenMask(narrow, width, [0, queries, 2 * queries], problem.KeyLengths));
        foreach (CallForm form in (ReadOnlySpan<CallForm>)[CallForm.Dense, CallForm.Packed, CallForm.Paged])
        {
            Problem call = problem with { Form = form };
            AssertSameBits(call with { Mask = form == CallForm.Dense ? new(wide, 2, 1, queries, keys) : new(wide, 1, 1, 2 * queries, keys) }, WithMask(call, function));
        }
    }

    [Fact]
    public void A_mask_over_new_tokens_refuses_what_does_not_fit()
    {
        Assert.Throws<ArgumentOutOfRangeException>("width", () => new NewTokenMask([true], 0, [0, 1], [5]));
        Assert.Throws<ArgumentException>("cumulativeQueryLengths", () => new NewTokenMask([true], 1, [0, 1], []));
        Assert.Throws<ArgumentException>("cumulativeQueryLengths", () => new NewTokenMask([true], 1, [0, 1, 2], [5]));
        Assert.Throws<ArgumentException>("cumulativeQueryLengths", () => new NewTokenMask([true], 1, [0, 2, 1], [5, 5]));
        Assert.Throws<ArgumentException>("mask", () => new NewTokenMask([true], 1, [0, 2], [5]));
        Assert.Throws<ArgumentException>("mask", () => new NewTokenMask([], 1, [0, 0], [5]));

        // As many sequences as the mask is about, or the call is refused.
        Problem two = Dense(CpuInstructionSet.Auto, 1);
        ArgumentException refused = Assert.Throws<ArgumentException>(() => Caller.Run(WithMask(two, MaskFunction.Of(new NewTokenMask([true], 1, [0, 1], [700])))));
        Assert.Contains("by batch", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Eight documents in one sequence against a packed call of them.</summary>
    [Theory]
    [MemberData(nameof(Calls))]
    public void Documents_in_one_sequence_are_the_sequences_of_a_packed_call(CpuInstructionSet variant, int queries)
    {
        const int Count = 8;
        int length = Math.Min(queries, 60) + 3;
        var generator = new ProblemGenerator(length);
        Problem packed = generator.Fill(new Problem
        {
            Name = "documents", Form = CallForm.Packed, Heads = 4, KeyValueHeads = 2, KeyDim = 32, ValueDim = 32, Query = [], Key = [], Value = [],
            QueryLengths = [.. Enumerable.Repeat(length, Count)], KeyLengths = [.. Enumerable.Repeat(length, Count)],
            Options = new() { Mask = AttentionMask.Causal }, Execution = new() { InstructionSet = variant },
        });
        int[] documents = [.. Enumerable.Range(0, Count * length).Select(i => i / length)];
        Problem one = packed with
        {
            QueryLengths = [Count * length], KeyLengths = [Count * length], Query = [[.. packed.Query.SelectMany(static x => x)]], Key = [[.. packed.Key.SelectMany(static x => x)]],
            Value = [[.. packed.Value.SelectMany(static x => x)]],
        };

        CallResult actual = Caller.Run(WithMask(one, MaskFunction.Of(new DocumentMask(documents))));

        // Short documents alone would be decoded, and have other bits.
        new CallResult([.. actual.Output[0].Chunk(length * packed.Heads * packed.ValueDim)], null).AssertClose(packed, RowByRow.Solve(packed));
    }

    /// <summary>Threads, the batch and where a cache's blocks lie do not show with functions either.</summary>
    [Theory]
    [MemberData(nameof(Calls))]
    public void Threads_and_blocks_do_not_show(CpuInstructionSet variant, int queries)
    {
        Problem problem = Dense(variant, queries) with { Form = CallForm.Paged, BlockSize = 16 };
        problem = problem with
        {
            Options = problem.Options with
            {
                ScoreFunction = ScoreFunction.Of(new TokenProduct(Tokens(2, queries), Tokens(2, problem.KeyLengths.Max())).Then(new TanhCap(4))),
                MaskFunction = MaskFunction.Of(new GlobalLocalMask(4, 200)),
            },
        };
        CallResult expected = Caller.Run(problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = 1 } });

        expected.AssertSameBits(Caller.Run(problem with { Execution = problem.Execution with { MaxDegreeOfParallelism = 3 } }), "three threads");
        expected.AssertSameBits(Caller.Run(problem with { BlockSize = 5 }), "blocks of 5");
        expected.AssertSameBits(Caller.Run(problem with { Form = CallForm.Packed }), "packed");
    }

    [Theory]
    [MemberData(nameof(Calls))]
    public void Row_invariant_calls_with_functions_have_the_same_bits_in_any_chunks(CpuInstructionSet variant, int queries)
    {
        Problem whole = Dense(variant, queries).Only(0);
        whole = whole with
        {
            Form = CallForm.Packed,
            KeyLengths = [queries], Key = [whole.Key[0][..(queries * whole.KeyValueHeads * whole.KeyDim)]], Value = [whole.Value[0][..(queries * whole.KeyValueHeads * whole.ValueDim)]],
            Options = whole.Options with { RowInvariant = true, ScoreFunction = ScoreFunction.Of(new LinearBias(new ScoreTable([0.1f, 0.2f, 0.3f, 0.4f]))), MaskFunction = MaskFunction.Of(new DilatedWindow(50, 3)) },
        };
        CallResult expected = Caller.Run(whole);
        int rowFloats = whole.Heads * whole.ValueDim;
        foreach ((int from, int to) in new[] { (0, queries), (queries - 1, queries), (queries / 3, queries / 2) })
        {
            if (from >= to) continue;
            CallResult.AssertSameBits(expected.Output[0].AsSpan(from * rowFloats, (to - from) * rowFloats), Caller.Run(whole.Chunk(from, to)).Output[0], $"queries {from} to {to}");
        }
    }

    /// <summary>Keys and values end after 512 tokens of 1,024, at a page that kills who reads it: what a mask function leaves no key of is passed over.</summary>
    [Theory]
    [MemberData(nameof(Calls))]
    public unsafe void Tiles_that_a_mask_function_empties_are_not_read(CpuInstructionSet variant, int queries)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "Guard pages are mapped on Linux only.");
        const int Kept = 512, Heads = 2, Dim = 16;
        var generator = new ProblemGenerator(queries);
        using var key = new TestMemory<float>(Kept * Heads * Dim, Placement.GuardAfter, 0);
        using var value = new TestMemory<float>(Kept * Heads * Dim, Placement.GuardAfter, 0);
        generator.Numbers(Kept * Heads * Dim, 1, AttentionElementType.Float32).CopyTo(key.Span);
        generator.Numbers(Kept * Heads * Dim, 1, AttentionElementType.Float32).CopyTo(value.Span);
        float[] query = generator.Numbers(queries * Heads * Dim, 1, AttentionElementType.Float32), expected = new float[query.Length], actual = new float[query.Length];
        var options = new AttentionOptions { Alignment = AttentionAlignment.TopLeft };
        var execution = new CpuExecution { InstructionSet = variant };
        fixed (float* q = query, e = expected, a = actual)
        {
            Attention.Forward(q, key.Pointer, value.Pointer, e, new AttentionShape(1, queries, Kept, Heads, Heads, Dim), options, default, execution);
            Attention.Forward(q, key.Pointer, value.Pointer, a, new AttentionShape(1, queries, 2 * Kept, Heads, Heads, Dim), options with { MaskFunction = MaskFunction.Of(new GlobalLocalMask(Kept, 0)) }, default, execution);
        }

        CallResult.AssertSameBits(expected, actual, "the keys that are kept");
    }

    [Fact]
    public void Options_and_explanations_name_the_functions()
    {
        var options = new AttentionOptions { Mask = AttentionMask.Causal, ScoreFunction = ScoreFunction.Of(new HeadTemperature(new ScoreTable([1f, 2f]))), MaskFunction = MaskFunction.Of(new GlobalLocalMask(2, 9)) };

        Assert.Equal("causal, scores by HeadTemperature, masked by GlobalLocalMask", options.ToString());
        string text = Attention.Explain<float, float>(new AttentionShape(1, 64, 64, 2, 1, 32), options).ToString();
        Assert.Contains("score function   HeadTemperature", text, StringComparison.Ordinal);
        Assert.Contains("= table0[2][v1]", text, StringComparison.Ordinal);
        Assert.Contains("mask function    GlobalLocalMask", text, StringComparison.Ordinal);
    }

    private static ScoreTable Documents(int sequences, int length, int each) => new([.. Enumerable.Range(0, sequences * length).Select(n => n % length / each)], sequences, length);

    private static ScoreTable Tokens(int sequences, int length) => new(new ProblemGenerator(length).Numbers(sequences * length, 1, AttentionElementType.Float32), sequences, length);

    private static Problem WithScore(Problem problem, ScoreFunction function) => problem with { Options = problem.Options with { ScoreFunction = function } };

    private static Problem WithMask(Problem problem, MaskFunction function) => problem with { Options = problem.Options with { MaskFunction = function } };

    private static void AssertSameBits(Problem expected, Problem actual) => Caller.Run(expected).AssertSameBits(Caller.Run(actual), actual.ToString());

    private static void AssertEqual(Problem expected, Problem actual)
    {
        CallResult a = Caller.Run(expected), b = Caller.Run(actual);
        for (int s = 0; s < a.Output.Length; s++)
        {
            for (int i = 0; i < a.Output[s].Length; i++) Assert.Equal(a.Output[s][i], b.Output[s][i], 4e-6f);
            for (int i = 0; i < a.LogSumExp![s].Length; i++) Assert.Equal(a.LogSumExp[s][i], b.LogSumExp![s][i], 4e-6f);
        }
    }

    /// <summary>Two batch rows of grouped heads and several tiles of keys, causal.</summary>
    private static Problem Dense(CpuInstructionSet variant, int queries)
    {
        const int Keys = 700;
        return new ProblemGenerator(queries).Fill(new Problem
        {
            Name = "ready-made", Form = CallForm.Dense, Heads = 4, KeyValueHeads = 2, KeyDim = 32, ValueDim = 32, Query = [], Key = [], Value = [],
            QueryLengths = [queries, queries], KeyLengths = [Keys, Keys], KeyCapacity = Keys, BlockSize = 16,
            Options = new() { Mask = AttentionMask.Causal }, Execution = new() { InstructionSet = variant },
        });
    }
}
