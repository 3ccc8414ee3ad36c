using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tests.Cpu.Numerics;
using Xunit;

namespace FusedAttention.Tests.Cpu.Rows;

/// <summary>One row of scores through the online softmax, tile by tile, against the sums in double precision: the passes of each instruction set on their own, without a kernel around them.</summary>
public sealed unsafe class ScoreRowTests
{
    public static TheoryData<CpuInstructionSet> Variants => SimdVariant.All;

    [Theory]
    [MemberData(nameof(Variants))]
    public void Scores_become_weights(CpuInstructionSet variant) => SimdVariant.Run(variant, new AgainstDoubles());

    [Theory]
    [MemberData(nameof(Variants))]
    public void Rows_together_have_the_bits_of_rows_alone(CpuInstructionSet variant) => SimdVariant.Run(variant, new Together());

    [Theory]
    [MemberData(nameof(Variants))]
    public void Excluded_keys_do_not_exist(CpuInstructionSet variant) => SimdVariant.Run(variant, new Exclusions());

    [Theory]
    [MemberData(nameof(Variants))]
    public void A_row_of_nothing_but_the_most_negative_bias_is_an_average(CpuInstructionSet variant) => SimdVariant.Run(variant, new FiniteMinimum());

    /// <summary>Whole and partial tiles, with each feature alone and all of them together, in three element types of bias.</summary>
    private sealed class AgainstDoubles : ISimdTest
    {
        public void Run<TS, TV>()
            where TS : struct, ISimd<TV>
            where TV : unmanaged
        {
            AttentionElementType?[] biases = [null, AttentionElementType.Float32, AttentionElementType.Float16, AttentionElementType.BFloat16];
            int seed = 0;
            foreach (float cap in (float[])[0, 5])
            foreach (float slope in (float[])[0, 0.125f])
            foreach (AttentionElementType? bias in biases)
            foreach (bool mask in (bool[])[false, true])
            {
                for (int i = 0; i < 2; i++) Check<TS, TV>(new Random(++seed), cap, slope, bias, mask);
            }
        }

        private static void Check<TS, TV>(Random random, float cap, float slope, AttentionElementType? biasType, bool hasMask)
            where TS : struct, ISimd<TV>
            where TV : unmanaged
        {
            const int Keys = 64, Dim = 32;
            string what = $"cap {cap}, slope {slope}, bias {biasType}, mask {hasMask}, width {TS.Width}";
            float scale = 0.375f;
            using var s = new TestMemory<float>(Keys, Placement.Margins, 0);
            using var output = new TestMemory<float>(Dim, Placement.Margins, 0);
            using var temporary = new TestMemory<float>(Keys, Placement.Margins, 0);
            float max = float.NegativeInfinity, sum = 0;
            double exactMax = double.NegativeInfinity, exactSum = 0;
            var exactOutput = new double[Dim];
            for (int tile = 0; tile < 4; tile++)
            {
                // Anything from no key to a whole tile; vectors in pairs around it.
                int start = random.Next(3) == 0 ? 0 : random.Next(Keys), stop = random.Next(3) == 0 ? Keys : random.Next(start, Keys + 1);
                int first = start / (2 * TS.Width) * 2, end = (stop + (2 * TS.Width) - 1) / (2 * TS.Width) * 2;
                long position = random.Next(-20, 100);
                foreach (ref float score in s.Span) score = (float)((random.NextDouble() * 24) - 12);
                float[] dots = s.Span.ToArray();

                // Exactly the keys in range have a mask and a bias: beside them is memory that nobody may read.
                using var mask = new TestMemory<byte>(stop - start, Guarded(random), 0);
                foreach (ref byte seen in mask.Span) seen = (byte)(random.Next(3) == 0 ? 0 : random.Next(1, 256));
                using Bias bias = Bias.Random(random, biasType ?? AttentionElementType.Float32, stop - start);

                var problem = new AttentionProblem { Scale = scale, SoftCap = cap, AlibiSlopes = slope == 0 ? default : new[] { slope } };
                if (biasType is not null) problem.Bias = bias.Start;
                if (hasMask) problem.Mask = mask.Pointer;
                var units = new ScoreUnits(problem);
                var row = new ScoreRowContext
                {
                    RelativePosition = position,
                    Slope = slope,
                    BiasType = biasType ?? AttentionElementType.Float32,
                    Bias = biasType is null ? null : bias.Start - (start * bias.Size),
                    Mask = hasMask ? mask.Pointer - start : null,
                };
                ScoreRow<TS, TV>.Update(s.Pointer, first, end, start, stop, ref max, ref sum, output.Pointer, Dim, units, row, temporary.Pointer);

                var scores = new Dictionary<int, double>();
                for (int j = start; j < stop; j++)
                {
                    if (hasMask && mask.Span[j - start] == 0) continue;
                    double score = (double)scale * dots[j];
                    if (cap > 0) score = cap * Math.Tanh(score / cap);
                    if (biasType is not null) score += bias[j - start];
                    score -= slope * Math.Abs(position - j);
                    if (!double.IsNegativeInfinity(score)) scores.Add(j, score);
                }

                double newMax = scores.Values.Append(exactMax).Max();
                double rescale = double.IsNegativeInfinity(exactMax) ? 1 : Math.Exp(exactMax - newMax);
                exactMax = newMax;
                exactSum = (exactSum * rescale) + scores.Values.Sum(score => Math.Exp(score - exactMax));
                for (int d = 0; d < Dim; d++) exactOutput[d] *= rescale;

                AssertNear(exactMax, max * units.NaturalScale, 1e-6 * (1 + Math.Abs(exactMax)), $"{what}: the maximum after tile {tile}");
                AssertNear(exactSum, sum, 1e-5 * exactSum, $"{what}: the sum after tile {tile}");
                for (int d = 0; d < Dim; d++) AssertNear(exactOutput[d], output.Span[d], (1e-5 * Math.Abs(exactOutput[d])) + 1e-30, $"{what}: output {d} after tile {tile}");
                for (int j = 0; j < Keys; j++)
                {
                    bool isProcessed = j >= first * TS.Width && j < end * TS.Width;
                    if (scores.TryGetValue(j, out double score)) AssertNear(Math.Exp(score - exactMax), s.Span[j], 1e-5 * Math.Exp(score - exactMax), $"{what}: the weight of key {j} of [{start}, {stop}) in tile {tile}");
                    else Assert.Equal(isProcessed ? 0 : dots[j], s.Span[j]);
                }

                // What a kernel adds for the tile.
                for (int d = 0; d < Dim; d++)
                {
                    float added = random.NextSingle();
                    output.Span[d] += added;
                    exactOutput[d] += added;
                }

                s.AssertMarginsUntouched("scores");
                output.AssertMarginsUntouched("output");
                temporary.AssertMarginsUntouched("temporary");
            }
        }
    }

    private sealed class Together : ISimdTest
    {
        public void Run<TS, TV>()
            where TS : struct, ISimd<TV>
            where TV : unmanaged
        {
            const int Rows = 9, Stride = 64, Dim = 16, Tile = 128;
            var random = new Random(3);
            int[] starts = [0, 128, 130, 150, 191, 192, 100, 140, 128], stops = [400, 192, 190, 151, 192, 200, 120, 140, 129];
            float[] together = [.. Enumerable.Range(0, Rows * Stride).Select(_ => (random.NextSingle() * 8) - 4)], alone = [.. together];
            float[] maxima = [.. Enumerable.Range(0, Rows).Select(r => r % 3 == 0 ? float.NegativeInfinity : random.NextSingle())], ownMaxima = [.. maxima];
            float[] sums = [.. maxima.Select(max => float.IsNegativeInfinity(max) ? 0 : 2 * random.NextSingle())], ownSums = [.. sums];
            float[] outputs = [.. Enumerable.Range(0, Rows * Dim).Select(_ => random.NextSingle())], ownOutputs = [.. outputs];
            var units = new ScoreUnits(new AttentionProblem { Scale = 0.25f });
            Assert.True(units.IsPlain);
            int end = Stride / TS.Width;
            fixed (float* s = together, own = alone, max = maxima, sum = sums, output = outputs, ownOutput = ownOutputs)
            fixed (int* from = starts, to = stops)
            {
                ScoreRow<TS, TV>.UpdateRows(s, Stride, Rows, 0, end, Tile, from, to, max, sum, output, Dim, units.Factor);
                for (int r = 0; r < Rows; r++)
                {
                    int start = Math.Max(starts[r] - Tile, 0), stop = Math.Min(stops[r] - Tile, Stride);
                    ScoreRow<TS, TV>.Update(own + (r * Stride), 0, end, start, stop, ref ownMaxima[r], ref ownSums[r], ownOutput + (r * Dim), Dim, units, default, null);
                }
            }

            Assert.Equal(Elements.Bytes<float>(alone), Elements.Bytes<float>(together));
            Assert.Equal(Elements.Bytes<float>(ownMaxima), Elements.Bytes<float>(maxima));
            Assert.Equal(Elements.Bytes<float>(ownSums), Elements.Bytes<float>(sums));
            Assert.Equal(Elements.Bytes<float>(ownOutputs), Elements.Bytes<float>(outputs));
        }
    }

    /// <summary>A score of NaN on a key that position, mask or bias excludes: bits as with any other number there. On a key that is seen it is the sum that says so, once and for all.</summary>
    private sealed class Exclusions : ISimdTest
    {
        private const int Keys = 64;
        private const int Excluded = 37;

        public void Run<TS, TV>()
            where TS : struct, ISimd<TV>
            where TV : unmanaged
        {
            foreach (Func<float, (float Max, float Sum, float[] Weights)> run in (Func<float, (float, float, float[])>[])[x => Update<TS, TV>(x, byMask: true, byBias: false), x => Update<TS, TV>(x, byMask: false, byBias: true)])
            {
                (float max, float sum, float[] weights) = run(0);
                Assert.Equal(0, weights[Excluded]);
                Assert.True(float.IsFinite(max) && float.IsFinite(sum));
                foreach (float hidden in (float[])[float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.MaxValue])
                {
                    (float Max, float Sum, float[] Weights) other = run(hidden);
                    Assert.Equal((max, sum), (other.Max, other.Sum));
                    Assert.Equal(Elements.Bytes<float>(weights), Elements.Bytes<float>(other.Weights));
                }
            }

            Assert.True(float.IsNaN(Update<TS, TV>(float.NaN, byMask: false, byBias: false).Sum));
            Assert.True(float.IsNaN(Update<TS, TV>(float.NaN, byMask: false, byBias: false, onlyKey: true).Sum));
            (float Max, float Sum, float[] Weights) none = Update<TS, TV>(5, byMask: true, byBias: false, onlyKey: true);
            Assert.Equal((float.NegativeInfinity, 0), (none.Max, none.Sum));
            Assert.Equal(0, none.Weights[Excluded]);
        }

        private static (float Max, float Sum, float[] Weights) Update<TS, TV>(float score, bool byMask, bool byBias, bool onlyKey = false)
            where TS : struct, ISimd<TV>
            where TV : unmanaged
        {
            var random = new Random(4);
            float[] scores = [.. Enumerable.Range(0, Keys).Select(_ => random.NextSingle())], biases = new float[Keys], temporary = new float[Keys];
            byte[] seen = [.. Enumerable.Repeat((byte)1, Keys)];
            scores[Excluded] = score;
            if (byMask) seen[Excluded] = 0;
            if (byBias) biases[Excluded] = float.NegativeInfinity;
            float max = float.NegativeInfinity, sum = 0;
            float* output = stackalloc float[16];
            fixed (float* s = scores, bias = biases, room = temporary)
            fixed (byte* mask = seen)
            {
                var problem = new AttentionProblem { Scale = 1, Mask = byMask ? mask : null, Bias = byBias ? (byte*)bias : null };
                var row = new ScoreRowContext { Mask = problem.Mask, Bias = problem.Bias, BiasType = AttentionElementType.Float32 };
                (int start, int stop) = onlyKey ? (Excluded, Excluded + 1) : (0, Keys);
                ScoreRow<TS, TV>.Update(s, 0, Keys / TS.Width, start, stop, ref max, ref sum, output, 16, new ScoreUnits(problem), row, room);
            }

            return (max, sum, scores);
        }
    }

    private sealed class FiniteMinimum : ISimdTest
    {
        public void Run<TS, TV>()
            where TS : struct, ISimd<TV>
            where TV : unmanaged
        {
            const int Keys = 32;
            float[] scores = [.. Enumerable.Range(0, Keys).Select(j => j - 7.5f)], biases = [.. Enumerable.Repeat(float.MinValue, Keys)], temporary = new float[Keys];
            float max = float.NegativeInfinity, sum = 0;
            float* output = stackalloc float[16];
            fixed (float* s = scores, bias = biases, room = temporary)
            {
                var problem = new AttentionProblem { Scale = 1, Bias = (byte*)bias };
                var row = new ScoreRowContext { Bias = (byte*)bias, BiasType = AttentionElementType.Float32 };
                ScoreRow<TS, TV>.Update(s, 0, Keys / TS.Width, 0, Keys, ref max, ref sum, output, 16, new ScoreUnits(problem), row, room);
            }

            Assert.Equal((float.MinValue, Keys), (max, sum));
            Assert.All(scores, weight => Assert.Equal(1, weight));
        }
    }

    private static Placement Guarded(Random random) => OperatingSystem.IsLinux() ? (random.Next(2) == 0 ? Placement.GuardAfter : Placement.GuardBefore) : Placement.Margins;

    private static void AssertNear(double expected, double actual, double limit, string what)
    {
        if (actual.Equals(expected) || Math.Abs(actual - expected) <= limit) return;
        Assert.Fail($"{what} is {actual:R}, expected {expected:R}, limit {limit:G3}.");
    }

    /// <summary>Biases of one element type, some of them negative infinity.</summary>
    private sealed class Bias(AttentionElementType type, TestMemory<byte> memory) : IDisposable
    {
        public byte* Start => memory.Pointer;

        public int Size => type == AttentionElementType.Float32 ? 4 : 2;

        public double this[int key] => type switch
        {
            AttentionElementType.Float32 => ((float*)Start)[key],
            AttentionElementType.Float16 => (double)((Half*)Start)[key],
            _ => (float)((BFloat16*)Start)[key],
        };

        public static Bias Random(Random random, AttentionElementType type, int count)
        {
            var bias = new Bias(type, new TestMemory<byte>(count * (type == AttentionElementType.Float32 ? 4 : 2), Guarded(random), 0));
            for (int j = 0; j < count; j++)
            {
                float value = random.Next(5) == 0 ? float.NegativeInfinity : (random.NextSingle() * 6) - 3;
                if (type == AttentionElementType.Float32) ((float*)bias.Start)[j] = value;
                else if (type == AttentionElementType.Float16) ((Half*)bias.Start)[j] = (Half)value;
                else ((BFloat16*)bias.Start)[j] = (BFloat16)value;
            }

            return bias;
        }

        public void Dispose() => memory.Dispose();
    }
}
