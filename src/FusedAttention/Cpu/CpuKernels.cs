using FusedAttention.Cpu.Decode;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Prefill;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Cpu;

/// <summary>The kernels of one instruction set, behind virtual calls: one a work item.</summary>
internal abstract unsafe class CpuKernels : IKernelSizes
{
    public abstract CpuInstructionSet InstructionSet { get; }

    /// <summary>32-bit lanes of a vector.</summary>
    public abstract int VectorWidth { get; }

    /// <inheritdoc />
    public abstract int TileRows { get; }

    /// <inheritdoc />
    public abstract int PartialRowFloats(int valueDim);

    /// <inheritdoc />
    public abstract long PrefillScratch(int rows, int keyDim, int valueDim);

    /// <inheritdoc />
    public abstract long DecodeScratch(int heads, int rows, int keyDim, int valueDim);

    public abstract void Prefill(AttentionProblem problem, in WorkItem item, in ScoreModification modification, byte* scratch);

    /// <summary>Decodes a chunk; the last chunk of its sequence and heads to finish merges them all.</summary>
    public abstract void Decode(AttentionProblem problem, in WorkItem item, in ScoreModification modification, byte* scratch, float* partials, int[] remainingChunks);
}

/// <inheritdoc />
internal sealed unsafe class CpuKernels<TS, TV, TTile>(CpuInstructionSet instructionSet) : CpuKernels
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TTile : struct, IRegisterTile
{
    public override CpuInstructionSet InstructionSet => instructionSet;

    public override int VectorWidth => TS.Width;

    public override int TileRows => TTile.Rows;

    public override int PartialRowFloats(int valueDim) => DecodeMerge<TS, TV>.RowFloats(valueDim);

    public override long PrefillScratch(int rows, int keyDim, int valueDim) => PrefillKernel<TS, TV, TTile>.ScratchBytes(rows, keyDim, valueDim);

    public override long DecodeScratch(int heads, int rows, int keyDim, int valueDim) =>
        new DecodeLayout(null, heads, rows, keyDim, valueDim, TS.Width).Bytes;

    public override void Prefill(AttentionProblem problem, in WorkItem item, in ScoreModification modification, byte* scratch) =>
        PrefillKernel<TS, TV, TTile>.Run(problem, item, modification, scratch);

    public override void Decode(AttentionProblem problem, in WorkItem item, in ScoreModification modification, byte* scratch, float* partials, int[] remainingChunks)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        var at = new DecodeLayout(scratch, item.HeadCount, item.RowCount, problem.KeyDim, problem.ValueDim, TS.Width);
        DecodeKernel<TS, TV>.Run(problem, item, modification, at);
        int rowFloats = DecodeMerge<TS, TV>.RowFloats(problem.ValueDim);
        float* chunk = partials + item.PartialStart + (item.Chunk * item.PartialStride);
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                int row = (h * at.RowsPerHead) + r;
                float* output = at.Output + ((nint)row * at.OutputStride);
                if (item.ChunkCount == 1) WriteRow(problem, sequence, item, h, r, at.Max[row], at.Sum[row], output, modification);
                else DecodeMerge<TS, TV>.Store(chunk + ((long)((h * item.RowCount) + r) * rowFloats), at.Max[row], at.Sum[row], output, at.OutputStride);
            }
        }

        if (item.ChunkCount == 1 || Interlocked.Decrement(ref remainingChunks[item.Counter]) != 0) return;
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                int query = Math.DivRem(r, problem.Group, out int inGroup);
                int head = ((item.Head + h) * problem.Group) + inGroup;
                float* first = partials + item.PartialStart + ((long)((h * item.RowCount) + r) * rowFloats);
                DecodeMerge<TS, TV>.Combine(problem, sequence, query, head, first, item.PartialStride, item.ChunkCount, at.OutputStride, modification);
            }
        }
    }

    private static void WriteRow(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, int headInItem, int row, float max, float sum, float* output, in ScoreModification modification)
    {
        int query = Math.DivRem(row, problem.Group, out int inGroup);
        int head = ((item.Head + headInItem) * problem.Group) + inGroup;
        RowEnd<TS, TV>.Write(problem, sequence, query, head, max, sum, output, modification);
    }
}
