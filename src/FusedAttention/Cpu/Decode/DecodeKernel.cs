using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// Attention of a few query rows a head against a chunk of keys, straight from the cache: decoding is bound by reading K and V, so nothing is packed and heads are the
/// inner loop, because a token's heads lie side by side in memory and memory is read fastest in order.
/// </summary>
/// <remarks>Rows of a key/value head are its queries times its group of query heads, padded to a multiple of four unless there is only one.</remarks>
internal static unsafe class DecodeKernel<TS, TV, TE>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TE : struct, IElement
{
    private const int TileKeys = DecodeTiles.Keys;

    public static long ScratchBytes(int heads, int rows, int keyDim, int valueDim) => new Layout(null, heads, rows, keyDim, valueDim).Bytes;

    /// <summary>Computes the chunk and leaves, row after row, m, l and O in scratch memory.</summary>
    public static void Run(AttentionProblem problem, in WorkItem item, in ScoreModification modification, in Layout at)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        Start(problem, sequence, item, at);
        KeyRange range = problem.RangeOf(sequence, 0, sequence.QueryLength - 1).Intersect(item.KeyStart, item.KeyEnd);
        for (int tile = range.Start / TileKeys * TileKeys; tile < range.End; tile += TileKeys)
        {
            KeyRange inTile = range.Intersect(tile, tile + TileKeys);
            RunTile(problem, sequence, item, modification, at, tile, inTile.Start - tile, inTile.End - tile);
        }
    }

    private static void Start(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in Layout at)
    {
        int dim = problem.KeyDim;
        int size = problem.QueryType == AttentionElementType.Float32 ? sizeof(float) : sizeof(ushort);
        new Span<float>(at.Query, item.HeadCount * at.RowsPerHead * at.QueryStride).Clear();
        new Span<float>(at.Output, item.HeadCount * at.RowsPerHead * at.OutputStride).Clear();
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                int row = (h * at.RowsPerHead) + r;
                int query = Math.DivRem(r, problem.Group, out int inGroup);
                int head = ((item.Head + h) * problem.Group) + inGroup;
                long offset = sequence.QueryStart + (query * problem.QueryTokenStride) + (head * problem.QueryHeadStride);
                RowConversion<TS, TV>.Widen(problem.QueryType, problem.Query + (offset * size), at.Query + ((nint)row * at.QueryStride), dim);
                at.Max[row] = float.NegativeInfinity;
                at.Sum[row] = 0;
            }
        }
    }

    private static void RunTile(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreModification modification, in Layout at, int tile, int start, int stop)
    {
        KeyRows.Locate(problem, sequence, tile + start, tile + stop, at.KeyRows + start, at.ValueRows + start);

        // Eight keys at a time ask for addresses beyond the last: they repeat it, and their sums are excluded.
        for (int j = stop; j < stop + DecodeTiles.KeysForOneRow; j++) at.KeyRows[j] = at.KeyRows[stop - 1];

        for (int h = 0; h < item.HeadCount; h++) Scores(problem, item.Head + h, at, h, start, stop);

        int firstVector = start / (2 * TS.Width) * 2;
        int endVector = (stop + (2 * TS.Width) - 1) / (2 * TS.Width) * 2;
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                int row = (h * at.RowsPerHead) + r;
                int query = r / problem.Group;
                int head = ((item.Head + h) * problem.Group) + (r % problem.Group);
                KeyRange range = problem.RangeOf(sequence, query).Intersect(tile + start, tile + stop);
                ScoreRowContext context = modification.IsPlain ? default : ScoreRowContext.Of(problem, sequence, query, head, tile);
                ScoreRow<TS, TV>.Update(
                    at.Scores + ((nint)row * TileKeys), firstVector, endVector, range.Start - tile, range.End - tile,
                    ref at.Max[row], ref at.Sum[row], at.Output + ((nint)row * at.OutputStride), at.OutputStride, modification, context, at.Temporary);
            }
        }

        for (int h = 0; h < item.HeadCount; h++)
        {
            nint offset = (nint)((item.Head + h) * problem.ValueHeadStride * TE.Size);
            for (int r = 0; r < at.RowsPerHead; r += DecodeTiles.Rows)
            {
                nint row = (h * at.RowsPerHead) + r;
                float* weights = at.Scores + (row * TileKeys) + start;
                float* output = at.Output + (row * at.OutputStride);
                if (at.RowsPerHead == 1) WeightedSums<TS, TV, TE>.OneRow(weights, at.ValueRows + start, offset, stop - start, output, problem.ValueDim);
                else WeightedSums<TS, TV, TE>.FourRows(weights, at.ValueRows + start, offset, stop - start, output, at.OutputStride, problem.ValueDim);
            }
        }
    }

    [SkipLocalsInit]
    private static void Scores(AttentionProblem problem, int head, in Layout at, int headInItem, int start, int stop)
    {
        nint offset = (nint)(head * problem.KeyHeadStride * TE.Size);
        nint firstRow = (nint)headInItem * at.RowsPerHead;
        float* sums = stackalloc float[8];
        float* more = stackalloc float[8];

        // Chains of at most 128 multiply-adds a lane: long dimensions are summed in blocks, as in prefill.
        int dim = problem.KeyDim;
        int block = PrefillTiles.DimBlock * TS.Width;
        if (at.RowsPerHead == 1)
        {
            float* scores = at.Scores + (firstRow * TileKeys);
            for (int j = start; j < stop; j += DecodeTiles.KeysForOneRow)
            {
                DotProducts<TS, TV, TE>.OneRow(at.Query + (firstRow * at.QueryStride), at.KeyRows + j, offset, Math.Min(block, dim), sums);
                for (int d = block; d < dim; d += block)
                {
                    DotProducts<TS, TV, TE>.OneRow(at.Query + (firstRow * at.QueryStride) + d, at.KeyRows + j, offset + (d * TE.Size), Math.Min(block, dim - d), more);
                    for (int i = 0; i < 8; i++) sums[i] += more[i];
                }

                int count = Math.Min(DecodeTiles.KeysForOneRow, stop - j);
                for (int i = 0; i < count; i++) scores[j + i] = sums[i];
            }

            return;
        }

        for (int r = 0; r < at.RowsPerHead; r += DecodeTiles.Rows)
        {
            float* query = at.Query + ((firstRow + r) * at.QueryStride);
            float* scores = at.Scores + ((firstRow + r) * TileKeys);
            for (int j = start; j < stop; j += 2)
            {
                byte* k0 = (byte*)(at.KeyRows[j] + offset);
                byte* k1 = (byte*)(at.KeyRows[j + 1] + offset);
                DotProducts<TS, TV, TE>.FourRows(query, at.QueryStride, k0, k1, Math.Min(block, dim), sums);
                for (int d = block; d < dim; d += block)
                {
                    DotProducts<TS, TV, TE>.FourRows(query + d, at.QueryStride, k0 + (d * TE.Size), k1 + (d * TE.Size), Math.Min(block, dim - d), more);
                    for (int i = 0; i < 8; i++) sums[i] += more[i];
                }

                for (int i = 0; i < DecodeTiles.Rows; i++)
                {
                    scores[(i * TileKeys) + j] = sums[2 * i];
                    if (j + 1 < stop) scores[(i * TileKeys) + j + 1] = sums[(2 * i) + 1];
                }
            }
        }
    }

    /// <summary>Where things lie in a worker's scratch memory.</summary>
    internal readonly struct Layout
    {
        public readonly int RowsPerHead;
        public readonly int QueryStride;
        public readonly int OutputStride;
        public readonly long Bytes;
        public readonly float* Query;
        public readonly float* Output;
        public readonly float* Max;
        public readonly float* Sum;
        public readonly float* Scores;
        public readonly float* Temporary;
        public readonly nint* KeyRows;
        public readonly nint* ValueRows;

        public Layout(byte* scratch, int heads, int rows, int keyDim, int valueDim)
        {
            var memory = new ScratchMemory(scratch);
            RowsPerHead = rows == 1 ? 1 : (rows + DecodeTiles.Rows - 1) / DecodeTiles.Rows * DecodeTiles.Rows;
            QueryStride = (keyDim + TS.Width - 1) / TS.Width * TS.Width;
            OutputStride = (valueDim + TS.Width - 1) / TS.Width * TS.Width;
            long all = (long)heads * RowsPerHead;
            Query = memory.Take<float>(all * QueryStride);
            Output = memory.Take<float>(all * OutputStride);
            Max = memory.Take<float>(all);
            Sum = memory.Take<float>(all);
            Scores = memory.Take<float>(all * TileKeys);
            Temporary = memory.Take<float>(TileKeys);
            KeyRows = memory.Take<nint>(TileKeys + DecodeTiles.KeysForOneRow);
            ValueRows = memory.Take<nint>(TileKeys);
            Bytes = memory.Used;
        }
    }
}
