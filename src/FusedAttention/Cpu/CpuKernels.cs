using FusedAttention.Cpu.Decode;
using FusedAttention.Cpu.Functions;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Merging;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Prefill;
using FusedAttention.Cpu.Rotary;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Cpu;

/// <summary>The kernels of one instruction set, behind virtual calls: one a work item.</summary>
internal abstract unsafe class CpuKernels : IKernelSizes
{
    public abstract CpuInstructionSet InstructionSet { get; }

    /// <summary>Its machine code for binary16; null where there is none or none may run.</summary>
    public abstract NarrowKernels? Narrow { get; }

    /// <summary>Its tile products for bfloat16; null where there are none or none may run.</summary>
    public abstract TileKernelCache? Tiles { get; }

    /// <summary>The same kernels with machine code.</summary>
    public abstract CpuKernels With(NarrowKernels? narrow, TileKernelCache? tiles);

    /// <summary>32-bit lanes of a vector.</summary>
    public abstract int VectorWidth { get; }

    /// <inheritdoc />
    public abstract PrefillRows PrefillRows(AttentionProblem problem);

    /// <inheritdoc />
    public abstract int PartialRowFloats(int valueDim);

    /// <inheritdoc />
    public abstract long PrefillScratch(AttentionProblem problem, in PrefillSizes sizes);

    /// <summary>The tile products that prefill a call; null where it is prefilled without.</summary>
    public abstract TileKernels? TilesOf(AttentionProblem problem);

    /// <inheritdoc />
    public abstract long DecodeScratch(AttentionProblem problem, int heads, int rows);

    public abstract void Prefill(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch);

    /// <summary>Decodes a chunk; the last chunk of its sequence and heads to finish merges them all.</summary>
    public abstract void Decode(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch, float* partials, int[] remainingChunks);

    /// <summary>Computes rows in double precision.</summary>
    public abstract void Wide(AttentionProblem problem, in WorkItem item);

    /// <summary>Gives the functions of a call the form that these kernels run; before it is planned.</summary>
    public abstract void Bind(AttentionProblem problem);

    /// <summary>The weights of a row in double precision, one for each key of its sequence.</summary>
    public abstract void Weigh(AttentionProblem problem, in SequenceProblem sequence, int query, int head, Span<double> weights);

    /// <summary>Merges the parts of rows.</summary>
    public abstract void Merge(in MergeProblem problem, long firstRow, long rows);

    /// <summary>Turns the pairs of a token's heads.</summary>
    public abstract void Rotate(in RotaryHeads heads);
}

/// <inheritdoc />
/// <param name="instructionSet">The instruction set.</param>
/// <param name="narrow">Machine code for elements of 16 and 8 bits; null for intrinsics.</param>
/// <param name="tiles">Tile products for bfloat16; null for none. Only AVX-512's kernels can have them.</param>
internal sealed unsafe class CpuKernels<TS, TV, TTile>(CpuInstructionSet instructionSet, NarrowKernels? narrow = null, TileKernelCache? tiles = null) : CpuKernels
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TTile : struct, IRegisterTile
{
    public override CpuInstructionSet InstructionSet => instructionSet;

    public override NarrowKernels? Narrow => narrow;

    public override TileKernelCache? Tiles => tiles;

    public override CpuKernels With(NarrowKernels? narrow, TileKernelCache? tiles) => new CpuKernels<TS, TV, TTile>(instructionSet, narrow, tiles);

    public override int VectorWidth => TS.Width;

    public override PrefillRows PrefillRows(AttentionProblem problem) =>
        TilesOf(problem) is null ? Planning.PrefillRows.OfFloats(TTile.Rows, problem.KeyDim, problem.ValueDim) : new(TileKernels.Rows, TileKernels.LeastItemRows, TileKernels.ItemRows);

    public override int PartialRowFloats(int valueDim) => DecodeMerge<TS, TV>.RowFloats(valueDim);

    public override long PrefillScratch(AttentionProblem problem, in PrefillSizes sizes) =>
        TilesOf(problem) is null ? PrefillKernel<TS, TV, TTile>.ScratchBytes(sizes) : PrefillKernel<TS, TV, TileStrip>.TileScratchBytes(sizes);

    public override TileKernels? TilesOf(AttentionProblem problem) =>
        tiles is not null && PrefillKernel<TS, TV, TileStrip>.TakesTiles(problem) ? tiles.For(problem.KeyDim, problem.ValueDim) : null;

    public override long DecodeScratch(AttentionProblem problem, int heads, int rows) => DecodeKernel<TS, TV>.ScratchBytes(problem, heads, rows);

    public override void Prefill(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch)
    {
        if (TilesOf(problem) is { } products)
        {
            PrefillKernel<TS, TV, TileStrip>.RunTiles(problem, item, units, scratch, products);
            return;
        }

        PrefillKernel<TS, TV, TTile>.Run(problem, item, units, scratch, narrow);
    }

    public override void Decode(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch, float* partials, int[] remainingChunks) =>
        DecodeKernel<TS, TV>.Run(problem, item, units, scratch, partials, remainingChunks, narrow);

    public override void Wide(AttentionProblem problem, in WorkItem item)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        for (int r = 0; r < item.RowCount; r++)
        {
            (int query, int head) = problem.RowAt(item.Head, item.RowStart + r);
            WideRow<TS, TV>.Write(problem, sequence, query, head);
        }
    }

    public override void Bind(AttentionProblem problem)
    {
        if (problem.ScoreFunction is not null || problem.MaskFunction is not null) FunctionBinder<TS, TV>.Bind(problem);
        else (problem.BoundScore, problem.BoundMask) = (null, null);
    }

    public override void Weigh(AttentionProblem problem, in SequenceProblem sequence, int query, int head, Span<double> weights) =>
        WideRow<TS, TV>.Weigh(problem, sequence, query, head, weights);

    public override void Merge(in MergeProblem problem, long firstRow, long rows) => MergeKernel<TS, TV>.Run(problem, firstRow, rows);

    public override void Rotate(in RotaryHeads heads) => RotaryKernel<TS, TV>.Rotate(heads);
}
