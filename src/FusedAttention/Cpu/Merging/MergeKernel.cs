using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Merging;

/// <summary>
/// One row at a time: <c>m = max lse_i</c>, <c>w_i = exp(lse_i - m) / sum_j exp(lse_j - m)</c>, <c>o = sum_i w_i * o_i</c>, <c>lse = m + log(sum_j exp(lse_j - m))</c>.
/// Log-sum-exps and weights in double, so that a part's weight is exactly 1 when all others have none; outputs in float; parts in ascending order. An infinite or undefined element stays so whatever its
/// part's weight, which may be too small for a float: 0 times infinity would make NaN of it.
/// </summary>
internal static unsafe class MergeKernel
{
    /// <summary>Elements of a row at a time: any row of common size in one go, and two buffers of it are 4 KB of stack.</summary>
    private const int Chunk = 512;

    /// <param name="shape">Sizes and strides.</param>
    /// <param name="partials">The parts' outputs.</param>
    /// <param name="partialLogSumExps">The parts' log-sum-exps.</param>
    /// <param name="sinks">A logit per head, or null.</param>
    /// <param name="output">Receives the rows.</param>
    /// <param name="logSumExps">Receives the log-sum-exps, or null.</param>
    public static void Run<TPartial, TOutput>(in MergeShape shape, TPartial* partials, float* partialLogSumExps, float* sinks, TOutput* output, float* logSumExps)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        for (long batch = 0; batch < shape.Batch; batch++)
        {
            for (long query = 0; query < shape.Queries; query++)
            {
                for (long head = 0; head < shape.Heads; head++)
                {
                    double logSumExp = MergeRow(
                        shape,
                        partials + shape.Partial.Offset(batch, query, head),
                        partialLogSumExps + shape.PartialLogSumExp.Offset(batch, query, head),
                        sinks == null ? double.NegativeInfinity : sinks[head],
                        output + shape.Output.Offset(batch, query, head));
                    if (logSumExps != null) logSumExps[shape.LogSumExp.Offset(batch, query, head)] = (float)logSumExp;
                }
            }
        }
    }

    [SkipLocalsInit]
    private static double MergeRow<TPartial, TOutput>(in MergeShape shape, TPartial* partials, float* logSumExps, double sink, TOutput* output)
        where TPartial : unmanaged
        where TOutput : unmanaged
    {
        double max = sink;
        for (long part = 0; part < shape.Parts; part++) max = Math.Max(max, logSumExps[part * shape.PartialLogSumExp.Part]);
        if (double.IsNegativeInfinity(max))
        {
            for (long i = 0; i < shape.Dim; i++) output[i] = default;
            return max;
        }

        double sum = Math.Exp(sink - max);
        for (long part = 0; part < shape.Parts; part++) sum += Math.Exp(logSumExps[part * shape.PartialLogSumExp.Part] - max);

        Span<float> accumulator = stackalloc float[Chunk], widened = stackalloc float[Chunk];
        for (long start = 0; start < shape.Dim; start += Chunk)
        {
            int length = (int)Math.Min(Chunk, shape.Dim - start);
            Span<float> o = accumulator[..length];
            bool first = true;
            for (long part = 0; part < shape.Parts; part++)
            {
                double logSumExp = logSumExps[part * shape.PartialLogSumExp.Part];
                if (double.IsNegativeInfinity(logSumExp)) continue;     // saw no key: its output may hold anything, NaN too
                float weight = (float)(Math.Exp(logSumExp - max) / sum);
                ReadOnlySpan<float> term = Widen(new ReadOnlySpan<TPartial>(partials + (part * shape.Partial.Part) + start, length), widened);
                if (weight == 0)
                {
                    if (first) o.Clear();
                    AddNotFinite(term, o);
                }
                else if (first)
                {
                    TensorPrimitives.Multiply(term, weight, o);
                }
                else
                {
                    TensorPrimitives.MultiplyAdd(term, weight, o, o);
                }

                first = false;
            }

            if (first) o.Clear();   // nothing but the sink
            Narrow(o, new Span<TOutput>(output + start, length));
        }

        return max + Math.Log(sum);
    }

    private static void AddNotFinite(ReadOnlySpan<float> term, Span<float> sums)
    {
        for (int i = 0; i < term.Length; i++)
        {
            if (!float.IsFinite(term[i])) sums[i] += term[i];
        }
    }

    /// <summary>The elements as floats: themselves, or converted into <paramref name="buffer"/>.</summary>
    private static ReadOnlySpan<float> Widen<T>(ReadOnlySpan<T> source, Span<float> buffer)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float)) return MemoryMarshal.Cast<T, float>(source);
        buffer = buffer[..source.Length];
        if (typeof(T) == typeof(Half))
        {
            TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<T, Half>(source), buffer);
            return buffer;
        }

        ReadOnlySpan<ushort> bits = MemoryMarshal.Cast<T, ushort>(source);
        Span<uint> wide = MemoryMarshal.Cast<float, uint>(buffer);
        int i = 0;
        for (; i <= bits.Length - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector.Widen(new Vector<ushort>(bits[i..]), out Vector<uint> low, out Vector<uint> high);
            (low << 16).CopyTo(wide[i..]);
            (high << 16).CopyTo(wide[(i + Vector<uint>.Count)..]);
        }

        for (; i < bits.Length; i++) wide[i] = (uint)bits[i] << 16;
        return buffer;
    }

    private static void Narrow<T>(ReadOnlySpan<float> source, Span<T> destination)
        where T : unmanaged
    {
        if (typeof(T) == typeof(float))
        {
            source.CopyTo(MemoryMarshal.Cast<T, float>(destination));
        }
        else if (typeof(T) == typeof(Half))
        {
            TensorPrimitives.ConvertToHalf(source, MemoryMarshal.Cast<T, Half>(destination));
        }
        else
        {
            Span<BFloat16> rounded = MemoryMarshal.Cast<T, BFloat16>(destination);
            for (int i = 0; i < rounded.Length; i++) rounded[i] = (BFloat16)source[i];
        }
    }
}
