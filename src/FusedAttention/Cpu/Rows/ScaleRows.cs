using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Rows;

/// <summary>
/// Scales of 8-bit keys and values, gathered for a tile of one head, and their place in a row: a key's scale multiplies its score, a value's scale its weight, so that keys and values themselves stay the exact codes.
/// </summary>
internal static unsafe class ScaleRows<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    // Of any instruction set's transposes.
    private const int MostTransposed = 8;

    /// <summary>Stores the scales of keys [start, end) of a sequence for some heads.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tensor">Scales of keys or of values.</param>
    /// <param name="first">Where the sequence's begin in it.</param>
    /// <param name="head">The first key/value head.</param>
    /// <param name="heads">How many.</param>
    /// <param name="start">First key.</param>
    /// <param name="end">End of the keys.</param>
    /// <param name="limit">The largest scale that 32-bit arithmetic is trusted with; NaN is stored for others, which has a row that sees the key computed again.</param>
    /// <param name="scales">Receives one a key of the first head.</param>
    /// <param name="stride">From a head's to the next one's.</param>
    /// <returns>Whether a scale, hidden ones included, is larger or NaN.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool Gather(
        AttentionProblem problem, in SequenceProblem sequence, in ScaleTensor tensor, long first, int head, int heads, int start, int end, float limit, float* scales, int stride)
    {
        float* source = tensor.First + first + (head * tensor.HeadStride);
        nint* rows = stackalloc nint[MostTransposed];
        int run;
        for (int key = start; key < end; key += run)
        {
            float* at = source + Offset(problem, sequence, tensor, key, out run);
            run = Math.Min(run, end - key);
            Copy(tensor, at, heads, run, scales + (key - start), stride, rows);
        }

        bool isBeyond = false;
        for (int h = 0; h < heads; h++) isBeyond |= Limit(scales + ((nint)h * stride), end - start, limit);
        return isBeyond;
    }

    /// <summary>From the scale of a sequence's first key, in blocks from the pool's, to a key's; and how many from there on lie in one piece.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static long Offset(AttentionProblem problem, in SequenceProblem sequence, in ScaleTensor tensor, int key, out int run)
    {
        run = int.MaxValue;
        if (problem.BlockSize == 0) return key * tensor.TokenStride;
        int block = Math.DivRem(key, problem.BlockSize, out int slot);
        run = problem.BlockSize - slot;
        return (sequence.BlockTable[block] * tensor.BlockStride) + (slot * tensor.TokenStride);
    }

    /// <summary>Scales of tokens that lie in one piece. Those of all heads of a token side by side, as <c>[token, head]</c> has them, are transposed in blocks: one by one they were 8 % of a decode of 8 heads of 128.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy(in ScaleTensor tensor, float* at, int heads, int tokens, float* to, int stride, nint* rows)
    {
        int block = TS.TransposeSize;
        int wholeHeads = tensor.HeadStride == 1 && block > 1 ? heads / block * block : 0, wholeTokens = tokens / block * block;
        for (int j = 0; j < wholeTokens && wholeHeads > 0; j += block)
        {
            for (int i = 0; i < block; i++) rows[i] = (nint)(at + ((j + i) * tensor.TokenStride));
            for (int h = 0; h < wholeHeads; h += block) TS.Transpose(rows, h, to + ((nint)h * stride) + j, stride);
        }

        for (int h = 0; h < heads; h++)
        {
            float* from = at + (h * tensor.HeadStride);
            for (int j = h < wholeHeads ? wholeTokens : 0; j < tokens; j++) to[((nint)h * stride) + j] = from[j * tensor.TokenStride];
        }
    }

    /// <summary>Puts NaN in place of scales that are larger than a limit. Says whether there are such, or were.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Limit(float* scales, int count, float limit)
    {
        TV most = TS.Create(limit), nan = TS.Create(float.NaN);
        TV within = TS.Equal(TS.Zero, TS.Zero);
        int j = 0;
        for (; j + TS.Width <= count; j += TS.Width)
        {
            TV scale = TS.Load(scales + j);
            TV isWithin = TS.LessOrEqual(scale, most);
            within = TS.And(within, isWithin);
            TS.Store(scales + j, TS.Select(isWithin, scale, nan));
        }

        bool isBeyond = TS.Bits(within) != (uint)((1L << TS.Width) - 1);
        for (; j < count; j++)
        {
            if (scales[j] <= limit) continue;
            scales[j] = float.NaN;
            isBeyond = true;
        }

        return isBeyond;
    }

    /// <summary>Multiplies scores by the scales of their keys, vectors [first, end) of a row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ScaleScores(float* scores, nint stride, int rows, float* scales, int first, int end)
    {
        for (int r = 0; r < rows; r++, scores += stride)
        {
            for (int j = first * TS.Width; j < end * TS.Width; j += TS.Width) TS.Store(scores + j, TS.Multiply(TS.Load(scores + j), TS.Load(scales + j)));
        }
    }

    /// <summary>The same for weights by the scales of values. A weight of 0 stays 0, whatever the scale: those of keys that a row does not see are.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void ScaleWeights(float* weights, nint stride, int rows, float* scales, int first, int end)
    {
        for (int r = 0; r < rows; r++, weights += stride)
        {
            for (int j = first * TS.Width; j < end * TS.Width; j += TS.Width)
            {
                TV weight = TS.Load(weights + j);
                TS.Store(weights + j, TS.Select(TS.Equal(weight, TS.Zero), TS.Zero, TS.Multiply(weight, TS.Load(scales + j))));
            }
        }
    }
}
