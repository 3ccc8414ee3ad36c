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
    /// <summary>Stores the scales of keys [start, end) of a sequence.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tensor">Scales of keys or of values.</param>
    /// <param name="first">Where the sequence's begin in it.</param>
    /// <param name="head">The key/value head.</param>
    /// <param name="start">First key.</param>
    /// <param name="end">End of the keys.</param>
    /// <param name="limit">The largest scale that 32-bit arithmetic is trusted with; NaN is stored for others, which has a row that sees the key computed again.</param>
    /// <param name="scales">Receives one a key.</param>
    /// <returns>Whether a scale, hidden ones included, is larger or NaN.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static bool Gather(AttentionProblem problem, in SequenceProblem sequence, in ScaleTensor tensor, long first, int head, int start, int end, float limit, float* scales)
    {
        float* source = tensor.First + first + (head * tensor.HeadStride);
        bool isBeyond = false;
        int slot = start, run = end - start, index = 0;
        if (problem.BlockSize > 0)
        {
            index = Math.DivRem(start, problem.BlockSize, out slot);
            run = problem.BlockSize - slot;
        }

        for (int left = end - start; left > 0; run = problem.BlockSize)
        {
            float* at = source + (slot * tensor.TokenStride);
            if (problem.BlockSize > 0) at += sequence.BlockTable[index++] * tensor.BlockStride;
            run = Math.Min(run, left);
            for (int j = 0; j < run; j++, at += tensor.TokenStride)
            {
                float scale = *at <= limit ? *at : float.NaN;
                isBeyond |= float.IsNaN(scale);
                *scales++ = scale;
            }

            left -= run;
            slot = 0;
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
