using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// Attention of a few query rows a head against a chunk of keys, straight from the cache: decoding is bound by reading K and V, so nothing is packed and heads are the
/// inner loop, because a token's heads lie side by side in memory and memory is read fastest in order. The last chunk of its sequence and heads to finish merges them all.
/// </summary>
/// <remarks>
/// <para>Rows of a key/value head are its queries times its group of query heads, padded to a multiple of four unless there is only one.</para>
/// <para>Keys and values are asked for some tokens ahead of their use, across the boundary of K and V and of tiles.</para>
/// </remarks>
internal static unsafe class DecodeKernel<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    public static long ScratchBytes(AttentionProblem problem, int heads, int rows) => new DecodeLayout(null, problem, heads, rows, TS.Width).Bytes;

    /// <summary>Computes a chunk, and writes its rows or leaves them for the merge.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="item">The chunk.</param>
    /// <param name="units">What the stored scores stand for.</param>
    /// <param name="scratch">The worker's memory.</param>
    /// <param name="partials">Memory for the partial results of split decodes.</param>
    /// <param name="remainingChunks">For each split decode, how many chunks are still to come.</param>
    /// <param name="narrow">Machine code for elements of 16 and 8 bits; null for intrinsics.</param>
    public static void Run(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch, float* partials, int[] remainingChunks, NarrowKernels? narrow)
    {
        var at = new DecodeLayout(scratch, problem, item.HeadCount, item.RowCount, TS.Width);
        DecodeCode code = default;
        switch (problem.KeyValueType)
        {
            case AttentionElementType.Float32:
                DecodeChunk<TS, TV, Float32Element, Float32Element, DecodeProducts<TS, TV, Float32Element, Float32Element>>.Run(problem, item, units, at, code);
                break;
            case AttentionElementType.Float16 when narrow is not null && HalfProducts.Takes(at.RowsPerHead) && narrow.TryDecode(problem.KeyDim, problem.ValueDim, DecodeTiles.ScoreStride, out code):
                DecodeChunk<TS, TV, Float16Element, Float16Element, HalfProducts>.Run(problem, item, units, at, code);
                break;
            case AttentionElementType.Float16:
                DecodeChunk<TS, TV, Float16Element, UnrebasedFloat16Element, DecodeProducts<TS, TV, Float16Element, UnrebasedFloat16Element>>.Run(problem, item, units, at, code);
                break;
            case AttentionElementType.BFloat16:
                DecodeChunk<TS, TV, BFloat16Element, BFloat16Element, DecodeProducts<TS, TV, BFloat16Element, BFloat16Element>>.Run(problem, item, units, at, code);
                break;
            case AttentionElementType.Int8 when narrow is not null && IntegerProducts.Takes(problem, at.RowsPerHead, TS.Width) && narrow.TryDecodeIntegers(problem.KeyDim, problem.ValueDim, DecodeTiles.ScoreStride, out code):
                if (TS.Width == IntegerLanes512.Width) DecodeChunk<TS, TV, Int8Element, Int8Element, IntegerProducts<TS, TV, IntegerLanes512>>.Run(problem, item, units, at, code);
                else DecodeChunk<TS, TV, Int8Element, Int8Element, IntegerProducts<TS, TV, IntegerLanes256>>.Run(problem, item, units, at, code);
                break;
            case AttentionElementType.Int8:
                DecodeChunk<TS, TV, Int8Element, Int8Element, DecodeProducts<TS, TV, Int8Element, Int8Element>>.Run(problem, item, units, at, code);
                break;
            case AttentionElementType.Float8E4M3:
                DecodeChunk<TS, TV, Float8E4M3Element, FiniteFloat8E4M3Element, DecodeProducts<TS, TV, Float8E4M3Element, FiniteFloat8E4M3Element>>.Run(problem, item, units, at, code);
                break;
            case AttentionElementType.Q8Block:
                DecodeChunk<TS, TV, Q8BlockElement, Q8BlockElement, DecodeProducts<TS, TV, Q8BlockElement, Q8BlockElement>>.Run(problem, item, units, at, code);
                break;
            default:
                throw ElementTypes.Unknown(problem.KeyValueType);
        }

        if (item.ChunkCount == 1)
        {
            WriteRows(problem, item, units, at);
            return;
        }

        StorePartials(problem, item, at, partials);
        if (Interlocked.Decrement(ref remainingChunks[item.Counter]) == 0) MergeRows(problem, item, units, at, partials);
    }

    private static void WriteRows(AttentionProblem problem, in WorkItem item, in ScoreUnits units, in DecodeLayout at)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                int row = (h * at.RowsPerHead) + r;
                (int query, int head) = problem.RowAt(item.Head + h, r);
                RowEnd<TS, TV>.Write(problem, sequence, query, head, at.Max[row], at.Sum[row], at.Output + ((nint)row * at.OutputStride), units);
            }
        }
    }

    private static void StorePartials(AttentionProblem problem, in WorkItem item, in DecodeLayout at, float* partials)
    {
        int rowFloats = DecodeMerge<TS, TV>.RowFloats(problem.ValueDim);
        float* chunk = partials + item.PartialStart + (item.Chunk * item.PartialStride);
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                int row = (h * at.RowsPerHead) + r;
                DecodeMerge<TS, TV>.Store(chunk + ((long)((h * item.RowCount) + r) * rowFloats), at.Max[row], at.Sum[row], at.Output + ((nint)row * at.OutputStride), at.OutputStride);
            }
        }
    }

    private static void MergeRows(AttentionProblem problem, in WorkItem item, in ScoreUnits units, in DecodeLayout at, float* partials)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        int rowFloats = DecodeMerge<TS, TV>.RowFloats(problem.ValueDim);
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                (int query, int head) = problem.RowAt(item.Head + h, r);
                float* first = partials + item.PartialStart + ((long)((h * item.RowCount) + r) * rowFloats);
                DecodeMerge<TS, TV>.Combine(problem, sequence, query, head, first, item.PartialStride, item.ChunkCount, at.OutputStride, units);
            }
        }
    }
}
