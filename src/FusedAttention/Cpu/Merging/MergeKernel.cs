using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Merging;

/// <summary>
/// One row at a time: <c>m = max lse_i</c>, <c>w_i = exp(lse_i - m) / sum_j exp(lse_j - m)</c>, <c>o = sum_i w_i * o_i</c>, <c>lse = m + log(sum_j exp(lse_j - m))</c>.
/// Log-sum-exps and weights in double, so that a part's weight is exactly 1 when all others have none; outputs in float; parts in ascending order. An infinite or undefined element stays so whatever its
/// part's weight, which may be too small for a float: 0 times infinity would make NaN of it.
/// </summary>
/// <remarks>Products are rounded before they are added, on every instruction set, so all of them give the same bits.</remarks>
internal static unsafe class MergeKernel<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>Elements of a row at a time: any row of common size in one go, and their sums are 2 KB of stack.</summary>
    private const int Chunk = 512;

    /// <param name="problem">The merge.</param>
    /// <param name="firstRow">The first row to write.</param>
    /// <param name="rows">How many.</param>
    public static void Run(in MergeProblem problem, long firstRow, long rows)
    {
        switch (problem.PartialType)
        {
            case AttentionElementType.Float32: Run<Float32Element>(problem, firstRow, rows); break;
            case AttentionElementType.Float16: Run<Float16Element>(problem, firstRow, rows); break;
            case AttentionElementType.BFloat16: Run<BFloat16Element>(problem, firstRow, rows); break;
            default: throw ElementTypes.Unknown(problem.PartialType);
        }
    }

    private static void Run<TE>(in MergeProblem problem, long firstRow, long rows)
        where TE : struct, IElement
    {
        ref readonly MergeShape shape = ref problem.Shape;
        int outputSize = problem.OutputType.Size();
        for (long row = firstRow; row < firstRow + rows; row++)
        {
            (long position, long head) = Math.DivRem(row, shape.Heads);
            (long batch, long query) = Math.DivRem(position, shape.Queries);
            double logSumExp = MergeRow<TE>(
                problem,
                problem.Partials + (shape.Partial.Offset(batch, query, head) * TE.Size),
                problem.PartialLogSumExps + shape.PartialLogSumExp.Offset(batch, query, head),
                problem.Sinks == null ? double.NegativeInfinity : problem.Sinks[head],
                problem.Output + (shape.Output.Offset(batch, query, head) * outputSize));
            if (problem.LogSumExps != null) problem.LogSumExps[shape.LogSumExp.Offset(batch, query, head)] = (float)logSumExp;
        }
    }

    [SkipLocalsInit]
    private static double MergeRow<TE>(in MergeProblem problem, byte* partials, float* logSumExps, double sink, byte* output)
        where TE : struct, IElement
    {
        ref readonly MergeShape shape = ref problem.Shape;
        int outputSize = problem.OutputType.Size();
        double max = sink;
        for (long part = 0; part < shape.Parts; part++) max = Math.Max(max, logSumExps[part * shape.PartialLogSumExp.Part]);
        double sum = double.IsNegativeInfinity(max) ? 0 : Math.Exp(sink - max);
        if (!double.IsNegativeInfinity(max))
        {
            for (long part = 0; part < shape.Parts; part++) sum += Math.Exp(logSumExps[part * shape.PartialLogSumExp.Part] - max);
        }

        float* sums = stackalloc float[Chunk];
        for (long start = 0; start < shape.Dim; start += Chunk)
        {
            int length = (int)Math.Min(Chunk, shape.Dim - start);
            bool first = true;
            for (long part = 0; part < shape.Parts; part++)
            {
                double logSumExp = logSumExps[part * shape.PartialLogSumExp.Part];
                if (double.IsNegativeInfinity(logSumExp)) continue;     // saw no key: its output may hold anything, NaN too
                float weight = (float)(Math.Exp(logSumExp - max) / sum);
                byte* term = partials + (((part * shape.Partial.Part) + start) * TE.Size);
                if (weight == 0)
                {
                    if (first) new Span<float>(sums, length).Clear();
                    AddNotFinite<TE>(term, sums, length);
                }
                else if (first)
                {
                    Multiply<TE>(term, weight, sums, length);
                }
                else
                {
                    AddProduct<TE>(term, weight, sums, length);
                }

                first = false;
            }

            if (first) new Span<float>(sums, length).Clear();   // no part saw a key
            RowConversion<TS, TV>.Narrow(problem.OutputType, sums, output + (start * outputSize), length);
        }

        return double.IsNegativeInfinity(max) ? max : max + Math.Log(sum);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply<TE>(byte* term, float weight, float* sums, int count)
        where TE : struct, IElement
    {
        TV weights = TS.Create(weight);
        int i = 0;
        for (; i + TS.Width <= count; i += TS.Width) TS.Store(sums + i, TS.Multiply(TE.Load<TS, TV>(term, i), weights));
        for (; i < count; i++) sums[i] = TE.LoadOne(term, i) * weight;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddProduct<TE>(byte* term, float weight, float* sums, int count)
        where TE : struct, IElement
    {
        TV weights = TS.Create(weight);
        int i = 0;
        for (; i + TS.Width <= count; i += TS.Width) TS.Store(sums + i, TS.Add(TS.Multiply(TE.Load<TS, TV>(term, i), weights), TS.Load(sums + i)));
        for (; i < count; i++) sums[i] = (TE.LoadOne(term, i) * weight) + sums[i];
    }

    private static void AddNotFinite<TE>(byte* term, float* sums, int count)
        where TE : struct, IElement
    {
        for (int i = 0; i < count; i++)
        {
            float element = TE.LoadOne(term, i);
            if (!float.IsFinite(element)) sums[i] += element;
        }
    }
}
