using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tests.Cpu.Numerics;
using Xunit;

namespace FusedAttention.Tests.Cpu.Rows;

/// <summary>From a row's maximum, sum and weighted values to its output and log-sum-exp, against double precision. Rows that are computed again are tested by whole calls.</summary>
public sealed class RowEndTests
{
    public static TheoryData<CpuInstructionSet> Variants => SimdVariant.All;

    [Theory]
    [MemberData(nameof(Variants))]
    public void Rows_are_divided_and_rounded(CpuInstructionSet variant) => SimdVariant.Run(variant, new Division());

    /// <summary>Maxima and sinks so far apart that an exponential of either would overflow.</summary>
    private sealed class Division : ISimdTest
    {
        public void Run<TS, TV>()
            where TS : struct, ISimd<TV>
            where TV : unmanaged
        {
            float none = float.NegativeInfinity;
            foreach ((float max, float sum) in ((float, float)[])[(none, 0), (0, 1), (3.5f, 7.25f), (-50, 0.001f), (3e4f, 2), (-3e4f, 2), (1e30f, 5)])
            {
                foreach (float sink in (float[])[none, 0, -5, 700, 3e4f, -3e4f])
                {
                    foreach (float naturalScale in (float[])[1, 0.125f])
                    {
                        Check<TS, TV, float>(max, sum, sink, naturalScale);
                        Check<TS, TV, Half>(max, sum, sink, naturalScale);
                        Check<TS, TV, BFloat16>(max, sum, sink, naturalScale);
                    }
                }
            }
        }

        private static unsafe void Check<TS, TV, T>(float max, float sum, float sink, float naturalScale)
            where TS : struct, ISimd<TV>
            where TV : unmanaged
            where T : unmanaged
        {
            // 37 dimensions are vectors and a rest on every instruction set. Row (query 2, head 1) of 3 queries and 2 heads.
            const int Dim = 37, Query = 2, Head = 1, Row = ((Query * 2) + Head) * Dim;
            string what = $"max {max}, sum {sum}, sink {sink}, natural scale {naturalScale}, {typeof(T).Name}, width {TS.Width}";
            AttentionElementType type = Elements.TypeOf<T>();
            float[] weighted = [.. Enumerable.Range(0, Dim).Select(d => sum == 0 ? 0 : (d % 5) switch { 0 => 0, 1 => -0f, _ => (d - 18) * 0.37f * sum })];
            using var output = new TestMemory<T>(3 * 2 * Dim, Placement.Margins, TestMemory<T>.Sentinel);
            using var logSumExp = new TestMemory<float>(6, Placement.Margins, TestMemory<float>.Sentinel);
            var problem = new AttentionProblem
            {
                QueryType = type, Output = (byte*)output.Pointer, OutputTokenStride = 2 * Dim, OutputHeadStride = Dim, ValueDim = Dim, Scale = naturalScale,
                LogSumExp = logSumExp.Pointer, LogSumExpHeadStride = 3, LogSumExpQueryStride = 1, SinkLogits = float.IsNegativeInfinity(sink) ? default : new[] { 99f, sink },
                // A scale of 1 that the passes have applied, or one that is left for the end.
                SoftCap = 0,
            };
            fixed (float* row = weighted) RowEnd<TS, TV>.Write(problem, default, Query, Head, max, sum, row, new ScoreUnits(problem));

            double m = (double)max * naturalScale, top = Math.Max(sum == 0 ? double.NegativeInfinity : m, sink);
            double part = sum == 0 ? 0 : Math.Exp(m - top), total = (sum * part) + (double.IsNegativeInfinity(sink) ? 0 : Math.Exp(sink - top));
            for (int d = 0; d < Dim; d++)
            {
                double expected = sum == 0 ? 0 : weighted[d] * part / total;
                T actual = output.Span[Row + d];
                double limit = (2.5e-7 * Math.Abs(expected)) + Elements.HalfUlp(type, expected);
                Assert.True(Math.Abs(Elements.ToSingle(actual) - expected) <= limit, $"{what}: output {d} is {Elements.ToSingle(actual):R}, expected {expected:R}.");
                if (expected == 0) Assert.False(float.IsNegative(Elements.ToSingle(actual)), $"{what}: output {d} is a negative zero.");
            }

            double expectedLog = total == 0 ? double.NegativeInfinity : top + Math.Log(total);
            float log = logSumExp.Span[(Head * 3) + Query];
            Assert.True(log.Equals((float)expectedLog) || Math.Abs(log - expectedLog) <= 1e-7 * Math.Abs(expectedLog), $"{what}: the log-sum-exp is {log:R}, expected {expectedLog:R}.");

            // Nothing else is written.
            Assert.Equal(5, logSumExp.Span.ToArray().Count(x => BitConverter.SingleToUInt32Bits(x) == 0xA5A5A5A5));
            Assert.False(System.Runtime.InteropServices.MemoryMarshal.AsBytes(output.Span[..Row]).ContainsAnyExcept(TestMemory<T>.Sentinel), $"{what}: another row was written.");
            output.AssertMarginsUntouched("output");
            logSumExp.AssertMarginsUntouched("log-sum-exp");
        }
    }
}
