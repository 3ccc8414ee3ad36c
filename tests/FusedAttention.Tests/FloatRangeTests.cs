using Xunit;

namespace FusedAttention.Tests;

/// <summary>Finite results are right where products, scaled scores or sums of values leave the range of floats on the way.</summary>
[Slow]
public sealed class FloatRangeTests
{
    public static TheoryData<CpuInstructionSet, bool, int> Cases()
    {
        var cases = new TheoryData<CpuInstructionSet, bool, int>();
        foreach (CpuInstructionSet variant in Variants.Supported)
        {
            foreach (int queries in new[] { 1, 5, 70 })
            {
                cases.Add(variant, false, queries);
                cases.Add(variant, true, queries);
            }
        }

        return cases;
    }

    /// <summary>Queries, keys and scale over the whole range of exponents, their product near 1.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Scores_of_ordinary_size_may_be_made_of_extreme_numbers(CpuInstructionSet variant, bool rowInvariant, int queries)
    {
        foreach (AttentionElementType type in new[] { AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16 })
        {
            foreach (int scaleExponent in new[] { -148, -140, -127, -100, -70, -40, -12, 0, 9, 11, 30, 60, 90, 110, 127 })
            {
                foreach (int keyExponent in type == AttentionElementType.Float16 ? [-10, 0, 12] : new[] { -100, -60, -20, 0, 20, 45, 80, 115 })
                {
                    int queryExponent = -scaleExponent - keyExponent;
                    if (queryExponent is < -120 or > 120) continue;
                    Problem problem = Create(queries, 150, type, variant, rowInvariant) with { Name = $"scale 2^{scaleExponent}, keys 2^{keyExponent}" };
                    problem = Scaled(problem, MathF.ScaleB(1, queryExponent), MathF.ScaleB(1, keyExponent), 1);
                    AssertRight(problem with { Options = problem.Options with { Scale = MathF.ScaleB(1, scaleExponent) } });
                }
            }
        }
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Cases))]
    public void Averages_of_large_and_of_tiny_values_are_right(CpuInstructionSet variant, bool rowInvariant, int queries)
    {
        foreach (AttentionElementType type in new[] { AttentionElementType.Float32, AttentionElementType.BFloat16 })
        {
            foreach (int exponent in new[] { -120, -60, 100, 120, 125 })
            {
                Problem problem = Scaled(Create(queries, 700, type, variant, rowInvariant), 1, 1, MathF.ScaleB(1, exponent));
                AssertRight(problem with { Name = $"values 2^{exponent}" });
            }
        }
    }

    /// <summary>A dot product that overflows to minus infinity would lose its weight without a trace.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void Scores_that_overflow_downwards_keep_their_weight(CpuInstructionSet variant, bool rowInvariant, int queries)
    {
        Problem problem = Create(queries, 40, AttentionElementType.Float32, variant, rowInvariant);
        problem = Scaled(problem, MathF.ScaleB(1, 55), MathF.ScaleB(1, 80), 1);
        for (int i = 0; i < problem.Query[0].Length; i++) problem.Query[0][i] = Math.Abs(problem.Query[0][i]);
        for (int i = 0; i < problem.Key[0].Length; i++) problem.Key[0][i] = -Math.Abs(problem.Key[0][i]);
        AssertRight(problem with { Name = "negative", Options = problem.Options with { Scale = MathF.ScaleB(1, -58) * MathF.ScaleB(1, -78) } });
        bool[] mask = [.. Enumerable.Range(0, 40).Select(j => j % 3 != 0)];
        AssertRight(problem with
        {
            Name = "negative and masked",
            Mask = new(mask, 1, 1, 1, 40) { Rank = 1 },
            Options = problem.Options with { Scale = MathF.ScaleB(1, -58) * MathF.ScaleB(1, -60) * MathF.ScaleB(1, -18) },
        });
    }

    [Slow]
    [Theory]
    [MemberData(nameof(Cases))]
    public void Soft_caps_of_any_size_are_right(CpuInstructionSet variant, bool rowInvariant, int queries)
    {
        foreach (float cap in new[] { 1e-45f, 1e-39f, 1e-30f, 1e-10f, 1e10f, 1e20f, 1e30f, 3e38f })
        {
            Problem problem = Create(queries, 60, AttentionElementType.Float32, variant, rowInvariant);
            Problem capped = problem with { Name = $"cap {cap}", Options = problem.Options with { SoftCap = cap } };

            // A cap far above all scores leaves them as they are, and the oracle's limit grows with the cap: so against the problem without one.
            if (cap < 1e9f) AssertRight(capped);
            else Caller.Run(capped).AssertClose(problem, CpuLimits.Of(problem));
            Array.Clear(problem.Query[0]);
            AssertRight(problem with { Name = $"zeros, cap {cap}", Options = problem.Options with { SoftCap = cap } });
        }
    }

    /// <summary>Beyond 2^24 floats cannot tell neighbouring distances apart; their differences are what ALiBi is about.</summary>
    [Slow]
    [Theory]
    [MemberData(nameof(Cases))]
    public void Alibi_is_right_far_from_all_keys(CpuInstructionSet variant, bool rowInvariant, int queries)
    {
        foreach (long offset in new[] { (1L << 24) - 300, (1L << 24) + 77, 1L << 31, -(1L << 27) })
        {
            Problem problem = Create(queries, 300, AttentionElementType.Float32, variant, rowInvariant);
            problem = problem with { Name = $"offset {offset}", Options = problem.Options with { AlibiSlopes = [0.25f, 0.0625f], QueryOffset = offset } };
            CallResult actual = Caller.Run(problem, Arrangement.Plain with { WantsLogSumExp = false });
            actual.AssertClose(problem, WithoutLargestDistance(problem));
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Sums_over_millions_of_keys_stay_within_the_limit(bool rowInvariant)
    {
        const int Keys = 4_000_000, Columns = 4;
        float[] value = new float[Keys * Columns];
        double[] means = new double[Columns];
        var random = new Random(1);
        for (int i = 0; i < value.Length; i++) means[i % Columns] += (value[i] = (float)(0.9 + (0.2 * random.NextDouble()))) / (double)Keys;
        float[] output = new float[Columns];
        var shape = new AttentionShape(1, 1, Keys, 1, 1, 1) { ValueDim = Columns, KeyStrides = new(1, 0, 1) };
        Attention.Forward<float, float>(new float[1], new float[1], value, output, shape, new AttentionOptions { RowInvariant = rowInvariant });
        for (int d = 0; d < Columns; d++) Assert.InRange(output[d], means[d] - 1.2e-6, means[d] + 1.2e-6);     // max|v| (2u + 2^-24 16), the tool's own limit
    }

    /// <summary>All keys are one key, and a window keeps the work small: positions near 2^31 in tiles, chunks and tables.</summary>
    [Theory]
    [InlineData(2_113_929_217, false)]
    [InlineData(int.MaxValue - 255, false)]
    [InlineData(int.MaxValue, false)]
    [InlineData(2_147_483_393, true)]
    [InlineData(int.MaxValue, true)]
    public void Positions_near_2_to_the_31_are_reached(int keys, bool rowInvariant)
    {
        foreach (int queries in new[] { 1, 40 })
        {
            float[] query = new float[queries], output = new float[queries];
            Array.Fill(query, 0.5f);
            var shape = new AttentionShape(1, queries, keys, 1, 1, 1) { KeyStrides = new(1, 0, 1), ValueStrides = new(1, 0, 1) };
            Attention.Forward<float, float>(query, new float[] { 1 }, new float[] { 3 }, output, shape, new AttentionOptions { Mask = AttentionMask.CausalWindow(20), RowInvariant = rowInvariant });
            Assert.All(output, x => Assert.Equal(3, x));
        }
    }

    private static void AssertRight(Problem problem) => Caller.Run(problem).AssertClose(problem, CpuLimits.Of(problem));

    private static Solution WithoutLargestDistance(Problem problem)
    {
        // The same scores less a constant, which the softmax does not see: distances from the nearest key on.
        long offset = problem.Options.QueryOffset!.Value;
        long near = offset > 0 ? problem.KeyLengths[0] : -problem.QueryLengths[0];
        return CpuLimits.Of(problem with { Options = problem.Options with { QueryOffset = near } });
    }

    private static Problem Create(int queries, int keys, AttentionElementType type, CpuInstructionSet variant, bool rowInvariant) => new ProblemGenerator(queries + keys).Fill(new Problem
    {
        Name = "",
        Form = CallForm.Dense,
        QueryType = AttentionElementType.Float32,
        KeyValueType = type,
        Heads = 2,
        KeyValueHeads = 1,
        KeyDim = 20,
        ValueDim = 12,
        QueryLengths = [queries],
        KeyLengths = [keys],
        KeyCapacity = keys,
        Query = [],
        Key = [],
        Value = [],
        Options = new AttentionOptions { RowInvariant = rowInvariant },
        Execution = new CpuExecution { InstructionSet = variant },
    });

    private static Problem Scaled(Problem problem, float query, float key, float value)
    {
        float[] Times(float[] numbers, float factor, AttentionElementType type) => [.. numbers.Select(x => Elements.Round(type, x / 8 * factor))];
        return problem with
        {
            Query = [Times(problem.Query[0], query, problem.QueryType)],
            Key = [Times(problem.Key[0], key, problem.KeyValueType)],
            Value = [Times(problem.Value[0], value, problem.KeyValueType)],
        };
    }
}
