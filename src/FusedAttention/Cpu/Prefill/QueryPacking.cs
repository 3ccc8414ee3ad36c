using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Prefill;

/// <summary>Queries to the form that register tiles read: for each tile of rows [dim][rows], so that a step of the product finds its broadcasts side by side.</summary>
internal static unsafe class QueryPacking<TS, TV, TTile>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TTile : struct, IRegisterTile
{
    private const int CacheLine = 64;

    // Far enough for a line from memory to arrive while the rows before it are packed; with it a call of 512 tokens went from 6.4 to 5.7 ms (AVX-512, D = 128).
    private const int RowsAhead = 8;

    /// <summary>Floats beyond the packed rows that packing may overwrite.</summary>
    public static int Overrun => Math.Max(0, TS.TransposeSize - TTile.Rows);

    /// <summary>
    /// Packs the rows of an item, in blocks that are transposed in registers: element by element it took 50 to 70 ns a row of 128, and 4 % of a prefill of 2k tokens. Missing rows of the last tile
    /// repeat the last one. May write up to <see cref="Overrun"/> floats beyond the last tile.
    /// </summary>
    /// <returns>Whether an element may be beyond <see cref="AttentionProblem.LargestQuery"/>, infinite or NaN.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static bool Pack(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, float* packed, float* temporary)
    {
        int dim = problem.KeyDim;
        int size = problem.QueryType.Size();
        int tiles = (item.RowCount + TTile.Rows - 1) / TTile.Rows;
        bool large = false;
        int block = TS.TransposeSize;
        int whole = dim / block * block;
        nint* rows = stackalloc nint[Math.Max(TTile.Rows, block)];
        for (int r = 0; r < Math.Min(RowsAhead, item.RowCount); r++) Prefetch(Row(problem, sequence, item, r), dim * size);
        for (int t = 0; t < tiles; t++)
        {
            for (int i = 0; i < Math.Max(TTile.Rows, block); i++)
            {
                int r = Math.Min((t * TTile.Rows) + Math.Min(i, TTile.Rows - 1), item.RowCount - 1);
                if (i < TTile.Rows && r + RowsAhead < item.RowCount) Prefetch(Row(problem, sequence, item, r + RowsAhead), dim * size);
                byte* row = Row(problem, sequence, item, r);
                rows[i] = (nint)row;
                if (size == sizeof(float)) continue;
                float* widened = temporary + ((nint)Math.Min(i, TTile.Rows - 1) * dim);
                if (i < TTile.Rows) RowConversion<TS, TV>.Widen(problem.QueryType, row, widened, dim);
                rows[i] = (nint)widened;
            }

            // The last block of rows begins early enough to end with the tile. Where a tile has fewer rows than a block, a step's last columns spill into the next step, which is
            // written afterwards.
            for (int i = 0; i < TTile.Rows; i += block)
            {
                int first = Math.Max(0, Math.Min(i, TTile.Rows - block));
                for (int d = 0; d < whole; d += block) TS.Transpose(rows + first, d, packed + ((nint)d * TTile.Rows) + first, TTile.Rows);
            }

            for (int d = whole; d < dim; d++)
            {
                for (int i = 0; i < TTile.Rows; i++) packed[((nint)d * TTile.Rows) + i] = ((float*)rows[i])[d];
            }

            large |= FloatChecks<TS, TV>.AnyAbove(FloatRange.LargestKey, packed, (nint)TTile.Rows * dim);
            packed += (nint)TTile.Rows * dim;
        }

        return large;
    }

    private static byte* Row(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, int row)
    {
        (int query, int head) = problem.RowAt(item.Head, item.RowStart + row);
        return problem.QueryOf(sequence, query, head);
    }

    private static void Prefetch(byte* row, int bytes)
    {
        for (int i = 0; i < bytes; i += CacheLine) TS.Prefetch(row + i);
    }
}
