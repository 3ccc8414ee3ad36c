using System.Runtime.CompilerServices;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>
/// Where keys and values lie: one address a key, of its row in head 0. It is the only place that knows pages, so that the kernels' arithmetic cannot depend on block sizes.
/// </summary>
internal static unsafe class KeyRows
{
    /// <summary>Stores the addresses of keys [start, end) of a sequence and of their values.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Locate(AttentionProblem problem, in SequenceProblem sequence, int start, int end, nint* keys, nint* values)
    {
        int size = problem.KeyValueType.Size();
        nint keyStride = (nint)(problem.KeyTokenStride * size);
        nint valueStride = (nint)(problem.ValueTokenStride * size);
        if (problem.BlockSize == 0)
        {
            nint key = (nint)problem.Key + (nint)((sequence.KeyStart + ((long)start * problem.KeyTokenStride)) * size);
            nint value = (nint)problem.Value + (nint)((sequence.ValueStart + ((long)start * problem.ValueTokenStride)) * size);
            for (int j = 0; j < end - start; j++)
            {
                keys[j] = key;
                values[j] = value;
                key += keyStride;
                value += valueStride;
            }

            return;
        }

        int blockSize = problem.BlockSize;
        int index = Math.DivRem(start, blockSize, out int slot);
        int left = end - start;
        while (left > 0)
        {
            long block = sequence.BlockTable[index];
            nint key = (nint)problem.Key + (nint)(((block * problem.KeyBlockStride) + (slot * problem.KeyTokenStride)) * size);
            nint value = (nint)problem.Value + (nint)(((block * problem.ValueBlockStride) + (slot * problem.ValueTokenStride)) * size);
            int run = Math.Min(left, blockSize - slot);
            for (int j = 0; j < run; j++)
            {
                keys[j] = key;
                values[j] = value;
                key += keyStride;
                value += valueStride;
            }

            keys += run;
            values += run;
            left -= run;
            slot = 0;
            index++;
        }
    }
}
