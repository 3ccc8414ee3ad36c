using System.Numerics.Tensors;
using Xunit;

namespace FusedAttention.Tests.Rotary;

/// <summary>Rotation in place.</summary>
public sealed class RotaryEmbeddingTests
{
    /// <summary>Around the seams of the table of angles, backwards, and far out.</summary>
    private static readonly int[] Positions = [0, 1, 2, 255, 256, 257, 4095, 100_003, (1 << 20) - 1, 1 << 20, (1 << 24) - 3, -1, -300];

    /// <summary>Whole vectors and tails of every width, parts of heads, more pairs than angles at once.</summary>
    private static readonly RotaryOptions[] Embeddings =
    [
        new() { HeadDim = 128 },
        new() { HeadDim = 80, RotaryDim = 38, Base = 1e6 },
        new() { HeadDim = 77, RotaryDim = 64, Offset = 13 },
        new() { HeadDim = 2 },
        new() { HeadDim = 1100 },
        new() { HeadDim = 64, Scaling = new YarnRotaryScaling { Factor = 8, OriginalContext = 4096 } },
    ];

    [Theory]
    [InlineData(CpuInstructionSet.Scalar)]
    [InlineData(CpuInstructionSet.Vector128)]
    [InlineData(CpuInstructionSet.Avx2)]
    [InlineData(CpuInstructionSet.Avx512)]
    public void Elements_are_as_in_double_precision(CpuInstructionSet variant)
    {
        Assert.SkipUnless(Variants.IsSupported(variant), $"{variant} is not available here.");
        foreach (RotaryOptions options in Embeddings)
        {
            foreach (RotaryPairing pairing in Enum.GetValues<RotaryPairing>())
            {
                var rotary = new RotaryEmbedding(options with { Pairing = pairing });
                Check<float>(rotary, variant);
                Check<Half>(rotary, variant);
                Check<BFloat16>(rotary, variant);
            }
        }
    }

    [Fact]
    public void Instruction_sets_threads_and_strides_change_no_bit()
    {
        const int Tokens = 300, Heads = 3;
        foreach (RotaryPairing pairing in Enum.GetValues<RotaryPairing>())
        {
            var rotary = new RotaryEmbedding(new() { HeadDim = 90, RotaryDim = 74, Pairing = pairing });
            float[] rows = new ProblemGenerator(3).Numbers(Tokens * Heads * 90, 2, AttentionElementType.Float32);
            int[] positions = [.. Enumerable.Range(0, Tokens).Select(static i => (i * 7919) % 50_000)];
            float[] expected = [.. rows];
            for (int token = 0; token < Tokens; token++)
                rotary.Apply(expected.AsSpan(token * Heads * 90, Heads * 90), [positions[token]], new() { InstructionSet = CpuInstructionSet.Scalar });
            foreach (CpuInstructionSet variant in Variants.Supported)
            {
                foreach (int threads in (int[])[1, 2, -1])
                {
                    float[] result = [.. rows];
                    rotary.Apply(result, positions, new() { InstructionSet = variant, MaxDegreeOfParallelism = threads });
                    Assert.True(result.AsSpan().SequenceEqual(expected), $"{pairing}, {variant}, {threads} threads");
                }
            }

            // Heads apart from tokens, [heads, tokens, dim], as torch has them; and two batches with the positions of one.
            float[] headMajor = new float[rows.Length];
            for (int i = 0; i < rows.Length; i++) headMajor[PlaceOf(i)] = rows[i];
            rotary.Apply(new TensorSpan<float>(headMajor, [Tokens, Heads, 90], [90, Tokens * 90, 1]), positions);
            float[] tokenMajor = [.. Enumerable.Range(0, rows.Length).Select(i => headMajor[PlaceOf(i)])];
            Assert.True(tokenMajor.AsSpan().SequenceEqual(expected), $"{pairing}, heads apart from tokens");
            Tensor<float> twice = Tensor.Create([.. rows, .. rows], [2, Tokens, Heads, 90]), each = Tensor.Create([.. rows, .. rows], [2, Tokens, Heads, 90]);
            rotary.Apply(twice, positions);
            rotary.Apply(each, [.. positions, .. positions.Reverse()]);
            float[] both = new float[2 * rows.Length], reversed = [.. rows];
            twice.FlattenTo(both);
            Assert.True(both.AsSpan().SequenceEqual([.. expected, .. expected]), $"{pairing}, one batch's positions for both");
            each.FlattenTo(both);
            rotary.Apply(reversed, [.. positions.Reverse()]);
            Assert.True(both.AsSpan().SequenceEqual([.. expected, .. reversed]), $"{pairing}, each batch's own positions");

            static int PlaceOf(int i) => (((i / 90 % Heads * Tokens) + (i / 90 / Heads)) * 90) + (i % 90);
        }
    }

    /// <summary>What the embedding is for.</summary>
    [Fact]
    public void Scores_depend_on_distances_alone()
    {
        var rotary = new RotaryEmbedding(new() { HeadDim = 64 });
        float[] query = new ProblemGenerator(1).Numbers(64, 1, AttentionElementType.Float32), key = new ProblemGenerator(2).Numbers(64, 1, AttentionElementType.Float32);
        float near = Score(17, 12);
        Assert.Equal(near, Score(40_017, 40_012), 1e-4f);
        Assert.NotEqual(near, Score(17, 11), 1e-2f);

        float Score(int at, int of)
        {
            float[] turnedQuery = [.. query], turnedKey = [.. key];
            rotary.Apply(turnedQuery, [at]);
            rotary.Apply(turnedKey, [of]);
            return TensorPrimitives.Dot(turnedQuery.AsSpan(), turnedKey.AsSpan());
        }
    }

    [Fact]
    public void Nothing_is_allocated()
    {
        var rotary = new RotaryEmbedding(new() { HeadDim = 64 });
        float[] rows = new float[64 * 64 * 8];
        int[] positions = [.. Enumerable.Range(1000, 64)];
        rotary.Apply(rows, positions);
        long before = GC.GetAllocatedBytesForCurrentThread();
        rotary.Apply(rows, positions);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void What_does_not_fit_is_refused_and_left_as_it_was()
    {
        var rotary = new RotaryEmbedding(new() { HeadDim = 4 });
        float[] rows = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        AssertRefused("rows has 9 elements, which is not a multiple of positions x HeadDim = 1 x 4.", "rows", () => rotary.Apply(rows, [1]));
        AssertRefused("rows has 4 elements, which is not a multiple of positions x HeadDim = 0 x 4.", "rows", () => rotary.Apply(rows.AsSpan(0, 4), []));
        AssertRefused("rows has shape [2, 2]; expected [batch, tokens, heads, 4] or [tokens, heads, 4].", "rows", () => rotary.Apply(Tensor.Create(rows[..4], [2, 2]), [1]));
        AssertRefused("rows has shape [1, 2, 2]; expected", "rows", () => rotary.Apply(Tensor.Create(rows[..4], [1, 2, 2]), [1]));
        AssertRefused("There are 3 positions for rows of shape [2, 1, 4]; expected 2, one a token.", "positions", () => rotary.Apply(Tensor.Create(rows[..8], [2, 1, 4]), [1, 2, 3]));
        AssertRefused("There are 3 positions for rows of shape [2, 1, 1, 4]; expected 1, one a token, or 2, one", "positions", () => rotary.Apply(Tensor.Create(rows[..8], [2, 1, 1, 4]), [1, 2, 3]));
        AssertRefused("rows of shape [2, 1, 4] overlaps itself", "rows", () => rotary.Apply(new TensorSpan<float>(rows, [2, 1, 4], [0, 0, 1]), [1, 2]));
        AssertRefused("rows of shape [1, 1, 4] has stride 2 in its last dimension", "rows", () => rotary.Apply(new TensorSpan<float>(rows, [1, 1, 4], [0, 0, 2]), [1]));
        AssertRefused("rows has elements of type Double", "rows", () => rotary.Apply(new double[4], [1]));
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, 8, 9], rows);
        rotary.Apply(Span<float>.Empty, []);
        rotary.Apply(new TensorSpan<float>(rows, [2, 0, 4]), [1, 2]);

        static void AssertRefused(string start, string name, Action call) => Assert.StartsWith(start, Assert.Throws<ArgumentException>(name, call).Message, StringComparison.Ordinal);
    }

    private static void Check<T>(RotaryEmbedding rotary, CpuInstructionSet variant)
        where T : unmanaged
    {
        const int Heads = 2;
        RotaryOptions options = rotary.Options;
        AttentionElementType type = Elements.TypeOf<T>();
        T[] rows = Elements.FromAll<T>(new ProblemGenerator(options.HeadDim).Numbers(Positions.Length * Heads * options.HeadDim, 3, type));
        float[] before = [.. rows.Select(Elements.ToSingle)];
        using var memory = new TestMemory<T>(rows.Length, Placement.Margins, TestMemory<T>.Poison);
        rows.CopyTo(memory.Span);
        rotary.Apply(memory.Span, Positions, new() { InstructionSet = variant });
        memory.AssertMarginsUntouched("rows");
        for (int head = 0; head < Positions.Length * Heads; head++)
        {
            ReadOnlySpan<float> row = before.AsSpan(head * options.HeadDim, options.HeadDim);
            double[] expected = RotaryOracle.Rotate(row, Positions[head / Heads], options, rotary.GetFrequencies(), rotary.Magnitude);
            for (int i = 0; i < row.Length; i++)
            {
                float actual = Elements.ToSingle(memory.Span[(head * options.HeadDim) + i]);
                bool isRotated = i >= options.Offset && i < options.Offset + options.RotaryDim;
                double tolerance = isRotated ? RotaryOracle.Tolerance(type, expected[i], row, rotary.Magnitude) : 0;
                if (!(Math.Abs(actual - expected[i]) <= tolerance))
                    Assert.Fail($"{typeof(T).Name}, {options}: element {i} at {Positions[head / Heads]} is {actual}, not {expected[i]} within {tolerance}");
            }
        }
    }
}
