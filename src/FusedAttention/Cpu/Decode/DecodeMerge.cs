using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// Partial results of the chunks of a sequence, and their combination: m = max m_i, l = sum l_i exp(m_i - m), O = sum O_i exp(m_i - m), always in the order of the chunks.
/// </summary>
internal static unsafe class DecodeMerge<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>Floats that one row of one chunk takes: m, l and, on a vector's boundary, O.</summary>
    public static int RowFloats(int valueDim) => TS.Width + Math.Max(0, 2 - TS.Width) + ((valueDim + TS.Width - 1) / TS.Width * TS.Width);

    private static int OutputOffset => Math.Max(2, TS.Width);

    public static void Store(float* partial, float max, float sum, float* output, int outputStride)
    {
        partial[0] = max;
        partial[1] = sum;
        new ReadOnlySpan<float>(output, outputStride).CopyTo(new Span<float>(partial + OutputOffset, outputStride));
    }

    /// <summary>Combines one row of all chunks into the row of chunk 0 and writes it out.</summary>
    public static void Combine(
        AttentionProblem problem, in SequenceProblem sequence, int query, int head, float* partial, long chunkStride, int chunks, int outputStride, in ScoreUnits units)
    {
        float max = float.NegativeInfinity;
        for (int c = 0; c < chunks; c++) max = Math.Max(max, partial[c * chunkStride]);

        float sum = 0;
        float* output = partial + OutputOffset;
        for (int c = 0; c < chunks; c++)
        {
            float* part = partial + (c * chunkStride);
            float weight = float.IsNegativeInfinity(part[0]) ? 0 : Elementary<TS, TV>.Exp2((part[0] - max) * units.Factor);
            float partSum = part[1];

            // A chunk without allowed keys has sum 0, or NaN when all its scores were NaN: weight 0 must not hide that.
            sum = float.IsNaN(partSum) ? float.NaN : sum + (partSum * weight);
            if (c > 0 && float.IsNegativeInfinity(part[0])) continue;
            TV w = TS.Create(weight);
            for (int i = 0; i < outputStride; i += TS.Width)
            {
                TV scaled = TS.Multiply(TS.Load(part + OutputOffset + i), w);
                TS.Store(output + i, c == 0 ? scaled : TS.Add(TS.Load(output + i), scaled));
            }
        }

        RowEnd<TS, TV>.Write(problem, sequence, query, head, max, sum, output, units);
    }
}
