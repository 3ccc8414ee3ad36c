using System.Text.RegularExpressions;
using FusedAttention.Cuda.Kernels;
using FusedAttention.Cuda.Launching;
using FusedAttention.Cuda.Planning;
using FusedAttention.Cuda.Ptx;
using FusedAttention.Cuda.Tests.Emulation;
using FusedAttention.Problems;
using Xunit;

namespace FusedAttention.Cuda.Tests.Ptx;

/// <summary>Functions as instructions: which kernels they share, what is written once a row, and how exact elementary functions are.</summary>
public sealed class FunctionTextTests
{
    private static readonly CudaDeviceDescription Device = new(0, "Test", 8, 0, 108, 166912, 40L << 30, 13000);

    /// <summary>Tables, their sizes and parameters are arguments; constants and operations are text.</summary>
    [Fact]
    public void Functions_of_one_form_share_a_kernel()
    {
        KernelFunction one = KernelOf(new Scaled(new([1, 2]), 3, 4)), other = KernelOf(new Scaled(new([5, 6, 7, 8]), 30, 4)), constant = KernelOf(new Scaled(new([1, 2]), 3, 5));
        Assert.Same(one, other);
        Assert.NotSame(one, constant);
        Assert.NotEqual(one.Text, constant.Text, StringComparer.Ordinal);
        Assert.NotSame(one, KernelOf(new TanhCap(4)));
    }

    /// <summary>A head's slope is looked up once a row, rows g and g + 8 of a lane, and the bias is one multiply-add a key.</summary>
    [Fact]
    public void What_all_keys_of_a_row_share_is_written_once()
    {
        string text = KernelOf(new LinearBias(new([1, 2, 3, 4]))).Text;
        
        // Once more where values are looked at one by one, of a result and of a partial one, which has a product of its own.
        int careful = 2, ofCareful = 2, rows = 2, keys = DecodeKeys();
        Assert.Equal(rows + careful, Regex.Count(text, @"ld\.global\.nc\.f32"));
        Assert.Equal((rows * keys / 4) + careful, Regex.Count(text, @"fma\.rn\.f32") - Regex.Count(KernelOf(new AttentionOptions()).Text, @"fma\.rn\.f32") - ofCareful);

        static int DecodeKeys() => TileTable.Decode(64, 64, Device)!.Value.Keys;
    }

    /// <summary>What is looked up by a distance and whole constants is counted in whole numbers; by a fraction or a parameter it is not.</summary>
    [Fact]
    public void Distances_are_whole_numbers()
    {
        const string Conversion = "cvt.rzi.s32.f32";
        Assert.DoesNotContain(Conversion, KernelOf(new T5RelativeBias(new float[64], heads: 2)).Text, StringComparison.Ordinal);
        Assert.DoesNotContain(Conversion, KernelOf(new ByDistance(new(new float[9]), 4)).Text, StringComparison.Ordinal);
        Assert.Contains(Conversion, KernelOf(new ByDistance(new(new float[9]), 4.5f)).Text, StringComparison.Ordinal);
        Assert.Contains(Conversion, KernelOf(new ByDistance(new(new float[9]), 3e9f)).Text, StringComparison.Ordinal);
        Assert.Contains(Conversion, KernelOf(new Scaled(new([1, 2]), 3, 4)).Text, StringComparison.Ordinal);
    }

    /// <summary>Sums and products of functions say how they are rounded, or the assembler may fuse them in one of two places and not in the other.</summary>
    [Fact]
    public void Arithmetic_has_its_rounding()
    {
        string text = KernelOf(new Scaled(new([1, 2]), 3, 4)).Text;
        Assert.Contains("mul.rn.f32", text, StringComparison.Ordinal);
        Assert.Contains("add.rn.f32", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("exp")]
    [InlineData("log")]
    [InlineData("sqrt")]
    public void Elementary_functions_are_exact_to_a_few_units(string name)
    {
        float[] inputs = name is "sqrt" ? [.. Enumerable.Range(1, 24).Select(static n => (float)(n * n * 7919L % 4095 * (n * n * 7919L % 4095))), 0, -0f, -1, float.PositiveInfinity, float.NaN, 1e-40f, 2, 3e38f] : name is "exp"
            ? [0, -0f, 1, -1, 1e-6f, -1e-6f, 0.3465735f, 0.34657363f, 10, -10, 88, 88.72f, 88.8f, 200, -87, -87.4f, -100, -103.9f, -200, 3.3e38f, -3.3e38f, float.PositiveInfinity, float.NegativeInfinity, float.NaN, 50.123f, -50.321f, 5e-39f, 2, 3, 0.5f, 44.4f, -0.7f]
            : [1, 1.0000001f, 0.99999994f, 1.0001f, 0.9999f, 0.70710677f, 0.7071068f, 1.4142135f, 2, 0.5f, 10, 1e10f, 1e-10f, 3e38f, 1.2e-38f, 1e-40f, 1e-45f, 0, -0f, -1, float.PositiveInfinity, float.NegativeInfinity, float.NaN, 7, 128, 511, 513, 1000, 16777216, 0.1f, 0.9f, 1.1f];
        float[] results = Run(inputs, name is "exp" ? Elementary.Exp : name is "log" ? Elementary.Log : Elementary.Sqrt);
        for (int i = 0; i < inputs.Length; i++)
        {
            double expected = name is "exp" ? Math.Exp(inputs[i]) : name is "log" ? Math.Log(inputs[i]) : Math.Sqrt(inputs[i]);
            float rounded = (float)expected;
            bool isSame = float.IsNaN(rounded) ? float.IsNaN(results[i]) : float.IsFinite(rounded) ? Math.Abs(results[i] - expected) <= (4e-7 * Math.Abs(expected)) + 1.5e-45 : results[i].Equals(rounded);
            if (name is "sqrt" && i < 24) isSame = results[i].Equals(rounded);
            Assert.True(isSame, $"{name}({inputs[i]:R}) is {results[i]:R}, not {rounded:R}");
        }
    }

    [Fact]
    public void Remainders_of_whole_numbers_are_exact()
    {
        float[] numbers = [.. Enumerable.Range(0, 32).Select(static n => n % 2 == 0 ? 16_777_213 - (n * 524_287) : -(n * 7919))];
        foreach (float divisor in (float[])[1, 2, 3, 5, 7, 37, 64, 1000, 4097, 16_777_215])
        {
            float[] results = Run(numbers, number => Elementary.Remainder(number, divisor, Elementary.MayDivideBy(divisor) ? Elementary.QuotientOfFinite(number, divisor) : number / divisor));
            Assert.Equal(numbers.Select(number => number % divisor), results);
        }
    }

    /// <summary>Without a division, and to the last bit: where the quotient is a whole number, nearly one, or infinite.</summary>
    [Fact]
    public void Quotients_by_constants_are_rounded_correctly()
    {
        var random = new Random(3);
        foreach (float divisor in (float[])[3, -7, 10, 0.1f, 1e-18f, 1e18f, 8, 0.125f, 1.7f, 6.02e17f, 37, 1000])
        {
            Assert.True(Elementary.MayDivideBy(divisor));
            for (int run = 0; run < 20; run++)
            {
                float[] numbers = [float.PositiveInfinity, float.NegativeInfinity, float.NaN, 0, float.MaxValue, -1, divisor, 7 * divisor, .. Enumerable.Range(0, 24).Select(n => n % 2 == 0 ? random.Next(1 << 24) : (random.NextSingle() - 0.5f) * MathF.Pow(2, random.Next(-60, 60)))];
                Assert.Equal(numbers.Select(number => number / divisor), Run(numbers, number => Elementary.Quotient(number, divisor)));
            }
        }

        Assert.False(Elementary.MayDivideBy(0) || Elementary.MayDivideBy(1e-30f) || Elementary.MayDivideBy(float.PositiveInfinity) || Elementary.MayDivideBy(float.NaN) || Elementary.MayDivideBy(1.9999999f));
    }

    private static KernelFunction KernelOf<TFunction>(TFunction function)
        where TFunction : struct, IScoreFunction
        => KernelOf(new AttentionOptions { ScoreFunction = ScoreFunction.Of(function) });

    private static KernelFunction KernelOf(AttentionOptions options)
    {
        AttentionProblem problem = ShapeProblem.Dense<Half, Half>(new(1, 1, 100, 2, 2, 64), options, OperandKinds.None);
        var plan = CudaPlan.Of(problem, Device, isAligned: true);
        return plan.FunctionAt(plan.MapLaunches);
    }

    /// <summary>A function of 32 numbers, in the emulator.</summary>
    private static float[] Run(float[] inputs, Func<F32, F32> function)
    {
        var k = new PtxKernel("test", PtxTarget.Sm80, 32, 1, 16);
        I64 at = I64.Product(k.ThreadIndex(), sizeof(float));
        k.Store(new Global(k.Parameter<I64>(8)) + at, function(k.Load<F32>(new Global(k.Parameter<I64>(0)) + at)));
        k.Exit();
        using var kernel = new TestKernel();
        CudaMemory input = kernel.Memory<float>(inputs), output = kernel.Unwritten(32 * sizeof(float));
        kernel.Launch(k.ToString(), [input.Address, output.Address]);
        return kernel.Read<float>(output);
    }

    private readonly struct ByDistance(ScoreTable table, float farthest) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => score + table.At(farthest + (at.Position - at.Key) - 1) + table.At(at.Key - at.Position - (-farthest));
    }

    private readonly struct Scaled(ScoreTable table, ScoreParameter factor, int constant) : IScoreFunction
    {
        public T Score<T>(T score, in ScoreContext<T> at)
            where T : struct, IScoreValue<T>
            => ((score * factor) + constant) * table.At(at.Key % 2);
    }
}
