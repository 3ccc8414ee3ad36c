using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using FusedAttention.Cpu.Functions;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Tests.Cpu.Functions;

/// <summary>Each operation of a function on vectors against the same one in double precision, over special values and random ones; look-ups in all their patterns.</summary>
public sealed unsafe class LanesTests
{
    private const int Count = 256;

    public static TheoryData<CpuInstructionSet> Supported => [.. Variants.Supported];

    [Theory]
    [MemberData(nameof(Supported))]
    public void Arithmetic_is_that_of_floats(CpuInstructionSet variant)
    {
        Check(variant, new Combined(0), 0);
        Check(variant, new Combined(1), 1e-7);
        Check(variant, new Combined(2), 1e-7);
        Check(variant, new Combined(3), 1e-7);
    }

    [Theory]
    [MemberData(nameof(Supported))]
    public void Elementary_functions_are_right_to_some_units_in_the_last_place(CpuInstructionSet variant)
    {
        Check(variant, default(ExpOf), variant is CpuInstructionSet.Vector128 or CpuInstructionSet.Scalar ? 8e-6 : 5e-7);
        Check(variant, default(LogOf), 4e-7);
        Check(variant, default(SqrtOf), 1e-7);
        Check(variant, default(TanhOf), 4e-7);
        Check(variant, default(FloorOf), 0);
    }

    [Theory]
    [MemberData(nameof(Supported))]
    public void Comparisons_and_logic_are_those_of_IEEE(CpuInstructionSet variant)
    {
        for (int operation = 0; operation < 8; operation++) Check(variant, new Compared(operation), 0);
    }

    [Theory]
    [MemberData(nameof(Supported))]
    public void Remainders_of_whole_numbers_are_exact(CpuInstructionSet variant)
    {
        foreach (int divisor in (ReadOnlySpan<int>)[1, 2, 3, 7, 128, 1000, 9973]) Check(variant, new RemainderOf(divisor), 0, whole: true);
    }

    /// <summary>By head, by key and beyond both ends, by a distance, by a number that every key has its own of: one table, four ways in which the compiler sees the index.</summary>
    [Theory]
    [MemberData(nameof(Supported))]
    public void Lookups_find_their_entries_and_the_nearest_beyond_the_ends(CpuInstructionSet variant)
    {
        foreach (int length in (ReadOnlySpan<int>)[1, 3, 16, 17, 40, 1000])
        {
            var table = new ScoreTable([.. Enumerable.Range(0, length).Select(static i => (float)(i * i))]);
            var grid = new ScoreTable([.. Enumerable.Range(0, 3 * length).Select(static i => (float)(7 * i))], 3, length);
            for (int way = 0; way < 9; way++) Check(variant, new Looked(table, grid, way), 0, whole: true);
        }
    }

    [Theory]
    [MemberData(nameof(Supported))]
    public void No_index_reads_beyond_a_table(CpuInstructionSet variant)
    {
        // Scores are any floats here, NaN and infinities among them: an index that is not finite is the first entry or the last one.
        var table = new ScoreTable([.. Enumerable.Range(0, 20).Select(static i => 100f + i)]);
        float* scores = stackalloc float[Count];
        float[] inputs = Inputs(whole: false);
        foreach (bool isUniform in (ReadOnlySpan<bool>)[false, true])
        {
            inputs.CopyTo(new Span<float>(scores, Count));
            Bind(variant, new LookedByScore(table, isUniform)).Apply(new FunctionRow(0, 0, 0, 0), scores, 0, Count / Width(variant), 1);
            for (int i = 0; i < Count; i++)
            {
                Assert.InRange(scores[i], 100, 119);
                if (float.IsNaN(inputs[i])) continue;
                if (!isUniform) Assert.Equal(100 + MathF.Floor(Math.Clamp(inputs[i], 0, 19)), scores[i]);
            }
        }
    }

    private static void Check<TFunction>(CpuInstructionSet variant, TFunction function, double relative, bool whole = false)
        where TFunction : struct, IScoreFunction
    {
        ScoreFunction exact = ScoreFunction.Of(function);
        BoundScore bound = Bind(variant, function);
        float* scores = stackalloc float[Count];
        foreach (int firstKey in (ReadOnlySpan<int>)[0, 48, 960])
        {
            foreach (long position in (ReadOnlySpan<long>)[0, -20, 100, 1 << 20])
            {
                float[] inputs = Inputs(whole);
                inputs.CopyTo(new Span<float>(scores, Count));
                bound.Apply(new FunctionRow(1, 2, 3, position), scores, firstKey, Count / Width(variant), 1);
                for (int i = 0; i < Count; i++)
                {
                    double expected = exact.Evaluate(inputs[i], 1, 2, 3, position, firstKey + i);
                    AssertClose(expected, scores[i], relative, $"{variant} {function}: {inputs[i]:R} at key {firstKey + i}, position {position}");
                }
            }
        }
    }

    private static void AssertClose(double expected, float actual, double relative, string where)
    {
        // Exactly what a float has for it, and beyond its range infinity or, at the other end, 0.
        if (((float)expected).Equals(actual) || (expected == 0 && actual == 0)) return;
        if (Math.Abs(expected) >= float.MaxValue * 0.999 && float.IsInfinity(actual)) return;
        Assert.True(Math.Abs(actual - expected) <= (relative * Math.Abs(expected)) + 1.2e-38, $"{where} is {actual:R}, expected {expected:R}.");
    }

    private static float[] Inputs(bool whole)
    {
        var random = new Random(7);
        float[] inputs = new float[Count];
        for (int i = 0; i < Count; i++) inputs[i] = whole ? random.Next(-2000, 2000) : (float)((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-6, 4)));
        if (whole) return inputs;
        ReadOnlySpan<float> specials =
        [
            0, -0f, 1, -1, float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.Epsilon, float.MaxValue, float.MinValue, 1e-40f, 88.7f, 88.8f, -87.4f, -103.9f, -104f, 0.99999994f, 1.0000001f, 1e10f, 1e30f, 0.625f,
        ];
        specials.CopyTo(inputs);
        return inputs;
    }

    private static int Width(CpuInstructionSet variant) => variant switch
    {
        CpuInstructionSet.Avx512 => Avx512Simd.Width,
        CpuInstructionSet.Avx2 => Avx2Simd.Width,
        CpuInstructionSet.Vector128 => Vector128Simd.Width,
        _ => ScalarSimd.Width,
    };

    private static BoundScore Bind<TFunction>(CpuInstructionSet variant, TFunction function)
        where TFunction : struct, IScoreFunction
        => variant switch
        {
            CpuInstructionSet.Avx512 => new BoundScore<Avx512Simd, Vector512<float>, TFunction>(function),
            CpuInstructionSet.Avx2 => new BoundScore<Avx2Simd, Vector256<float>, TFunction>(function),
            CpuInstructionSet.Vector128 => new BoundScore<Vector128Simd, Vector128<float>, TFunction>(function),
            _ => new BoundScore<ScalarSimd, float, TFunction>(function),
        };

    private readonly struct Combined(int way) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => way switch
            {
                0 => T.Select(T.Abs(score) < 3, -score, T.Max(T.Min(score, 100), -100)),
                1 => score + 0.1f,
                2 => 3 / score,
                _ => score * 1.7f,
            };
    }

    private readonly struct Compared(int operation) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
        {
            T truth = operation switch
            {
                0 => score < 1,
                1 => score <= 1,
                2 => score > 1,
                3 => score >= 1,
                4 => score == 1,
                5 => score != 1,
                6 => (score > -1) & !(score >= 1),
                _ => (score < -1) | (score == 0) | (at.Key > at.Position),
            };
            return T.Select(truth, 2, 3);
        }
    }

    private readonly struct ExpOf : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Exp(score);
    }

    private readonly struct LogOf : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Log(score);
    }

    private readonly struct SqrtOf : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Sqrt(score);
    }

    private readonly struct TanhOf : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Tanh(score);
    }

    private readonly struct FloorOf : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => T.Floor(score);
    }

    private readonly struct RemainderOf(int divisor) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => (score % divisor) + (1000 * T.Floor(at.Key / divisor));
    }

    private readonly struct Looked(ScoreTable table, ScoreTable grid, int way) : IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => way switch
            {
                0 => table.At(at.Head + 5),
                1 => table.At(at.Key + 0),
                2 => table.At(at.Key - at.Position),
                3 => table.At(score),
                4 => grid.At(at.Batch + 0, at.Key - 7),
                5 => grid.At(score, at.Head + 0),
                6 => grid.At(at.Key % 3, at.Key - at.Position),
                7 => table.At(T.Exp(0) + at.Position),
                _ => table.At(-at.Key + at.Position),
            };
    }

    private readonly struct LookedByScore(ScoreTable table, bool isUniform) : IScoreFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => isUniform
                ? table.At((T)float.NaN) + (table.At((T)float.PositiveInfinity) * 0) + (table.At((T)float.NegativeInfinity) * 0) + (table.At((T)1e20f) * 0)
                : table.At(score);
    }
}
