using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Memory;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Prefill;

/// <summary>
/// Attention of a block of rows against all their keys, tile by tile: S = Q K^T, online softmax, O += P V (Dao et al. 2022, arXiv:2205.14135).
/// </summary>
/// <remarks>
/// <para>Rows are the queries of one sequence times the query heads that share one key/value head, query by query, so that a packed tile of K and V serves the whole group.</para>
/// <para>A tile of K is packed transposed and a tile of V panel by panel, both widened to floats, once for all rows of the item. Then strips of rows go through the tile:
/// scores, softmax and output of a strip while its scores are in the first-level cache.</para>
/// <para>Keys outside every row's range are never touched; inside a tile each register tile of rows works on the union of its rows' ranges only.</para>
/// </remarks>
internal static unsafe class PrefillKernel<TS, TV, TTile>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TTile : struct, IRegisterTile
{
    private const int TileKeys = PrefillTiles.Keys;

    /// <summary>Columns of a panel: the two vectors of a register tile.</summary>
    private static int PanelWidth => 2 * TS.Width;

    /// <summary>Rows of a strip: whole register tiles.</summary>
    private static int StripRows => Math.Max(1, PrefillTiles.StripRows / TTile.Rows) * TTile.Rows;

    public static long ScratchBytes(int rows, int keyDim, int valueDim) => new Layout(null, rows, keyDim, valueDim).Bytes;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(AttentionProblem problem, in WorkItem item, in ScoreModification modification, byte* scratch)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        var at = new Layout(scratch, item.RowCount, problem.KeyDim, problem.ValueDim);
        int group = problem.Group;
        int firstQuery = item.RowStart / group;
        int lastQuery = (item.RowStart + item.RowCount - 1) / group;
        KeyRange block = problem.RangeOf(sequence, firstQuery, lastQuery);
        Start(problem, sequence, item, at);
        if (!block.IsEmpty)
        {
            QueryPacking<TS, TV, TTile>.Pack(problem, sequence, item, at.Query, at.Temporary);
            int tile = block.Start / TileKeys * TileKeys;
            KeyRange inTile = Locate(problem, sequence, block, tile, at);
            for (; tile < block.End; tile += TileKeys)
            {
                KeyValuePacking<TS, TV>.Pack(problem, item.Head, inTile.Start - tile, inTile.End - tile, at.KeyRows, at.ValueRows, at.Key, at.Value, at.Temporary);

                // The addresses have served; from now on they are those of the next tile, which the strips ask for bit by bit while they compute this one.
                inTile = Locate(problem, sequence, block, tile + TileKeys, at);
                for (int strip = 0; strip < at.PaddedRows; strip += StripRows)
                {
                    PrefetchShare(problem, item.Head, inTile.Start - tile - TileKeys, inTile.End - tile - TileKeys, at, strip);
                    RunStrip(problem, sequence, item, modification, at, tile, strip, Math.Min(strip + StripRows, at.PaddedRows));
                }
            }
        }

        for (int r = 0; r < item.RowCount; r++)
        {
            RowEnd<TS, TV>.Write(
                problem, sequence, at.RowQuery[r], at.RowHead[r], at.Max[r], at.Sum[r], at.Output + ((nint)r * at.OutputStride), modification);
        }
    }

    /// <summary>Finds the rows of a tile's keys and values. Returns which keys of it are in range.</summary>
    private static KeyRange Locate(AttentionProblem problem, in SequenceProblem sequence, KeyRange block, int tile, in Layout at)
    {
        KeyRange inTile = block.Intersect(tile, tile + TileKeys);
        if (!inTile.IsEmpty) KeyRows.Locate(problem, sequence, inTile.Start, inTile.End, at.KeyRows + (inTile.Start - tile), at.ValueRows + (inTile.Start - tile));
        return inTile;
    }

    /// <summary>
    /// Asks for the part of keys [start, stop) of the next tile that falls to a strip. Rows of one head lie a token apart, which hardware prefetching does not follow: packing
    /// took 9 % of the time without this (D = 128, 2k keys).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PrefetchShare(AttentionProblem problem, int head, int start, int stop, in Layout at, int strip)
    {
        const int CacheLine = 64;
        int size = problem.KeyValueType.Size();
        nint keyOffset = (nint)(head * problem.KeyHeadStride * size);
        nint valueOffset = (nint)(head * problem.ValueHeadStride * size);
        int keyBytes = problem.KeyDim * size;
        int valueBytes = problem.ValueDim * size;
        long keys = Math.Max(0, stop - start);
        int end = start + (int)(keys * Math.Min(strip + StripRows, at.PaddedRows) / at.PaddedRows);
        for (int j = start + (int)(keys * strip / at.PaddedRows); j < end; j++)
        {
            for (int i = 0; i < keyBytes; i += CacheLine) TS.Prefetch((byte*)(at.KeyRows[j] + keyOffset + i));
            for (int i = 0; i < valueBytes; i += CacheLine) TS.Prefetch((byte*)(at.ValueRows[j] + valueOffset + i));
        }
    }

    private static void Start(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in Layout at)
    {
        for (int r = 0; r < item.RowCount; r++)
        {
            int query = Math.DivRem(item.RowStart + r, problem.Group, out int inGroup);
            KeyRange range = problem.RangeOf(sequence, query);
            at.RowQuery[r] = query;
            at.RowHead[r] = (item.Head * problem.Group) + inGroup;
            at.RowStart[r] = range.Start;
            at.RowEnd[r] = range.End;
            at.Max[r] = float.NegativeInfinity;
            at.Sum[r] = 0;
        }

        new Span<float>(at.Output, at.PaddedRows * at.OutputStride).Clear();
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunStrip(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreModification modification, in Layout at, int tile, int strip, int stripEnd)
    {
        // The union of key ranges of each register tile's rows, relative to the tile of keys: at most 28 / 1 register tiles a strip.
        int tiles = (stripEnd - strip) / TTile.Rows;
        int* start = stackalloc int[tiles];
        int* stop = stackalloc int[tiles];
        int stripStart = TileKeys;
        int stripStop = 0;
        for (int t = 0; t < tiles; t++)
        {
            int first = strip + (t * TTile.Rows);
            int last = Math.Min(first + TTile.Rows, item.RowCount) - 1;
            start[t] = Math.Max(at.RowStart[first], tile) - tile;
            stop[t] = Math.Min(at.RowEnd[last], tile + TileKeys) - tile;
            if (start[t] >= stop[t]) continue;
            stripStart = Math.Min(stripStart, start[t]);
            stripStop = Math.Max(stripStop, stop[t]);
        }

        if (stripStart >= stripStop) return;

        if (problem.Bias != null || problem.Mask != null) PrefetchScoreTensors(problem, sequence, item, at, tile, strip, stripEnd);

        // Panels outside, register tiles inside: a panel of K stays in the first-level cache while the strip's rows pass it.
        nint queryTile = (nint)TTile.Rows * problem.KeyDim;
        float* query = at.Query + (strip * (nint)problem.KeyDim);
        for (int panel = stripStart / PanelWidth; panel * PanelWidth < stripStop; panel++)
        {
            float* key = at.Key + ((nint)panel * PanelWidth * problem.KeyDim);
            for (int t = 0; t < tiles; t++)
            {
                if (start[t] >= (panel + 1) * PanelWidth || stop[t] <= panel * PanelWidth || start[t] >= stop[t]) continue;
                float* scores = at.Scores + ((nint)t * TTile.Rows * TileKeys) + (panel * PanelWidth);
                for (int d = 0; d < problem.KeyDim; d += PrefillTiles.DimBlock)
                {
                    int length = Math.Min(PrefillTiles.DimBlock, problem.KeyDim - d);
                    TTile.Scores(query + (t * queryTile) + (d * (nint)TTile.Rows), key + (d * (nint)PanelWidth), scores, length, d > 0);
                }
            }
        }

        for (int t = 0; t < tiles; t++)
        {
            if (start[t] >= stop[t]) continue;
            int firstVector = start[t] / PanelWidth * 2;
            int endVector = (stop[t] + PanelWidth - 1) / PanelWidth * 2;
            int end = Math.Min(strip + ((t + 1) * TTile.Rows), item.RowCount);
            if (modification.IsPlain)
            {
                int row = strip + (t * TTile.Rows);
                ScoreRow<TS, TV>.UpdateRows(
                    at.Scores + ((nint)t * TTile.Rows * TileKeys), TileKeys, end - row, firstVector, endVector, tile, at.RowStart + row, at.RowEnd + row, at.Max + row, at.Sum + row,
                    at.Output + ((nint)row * at.OutputStride), at.OutputStride, modification.Factor);
                continue;
            }

            for (int r = strip + (t * TTile.Rows); r < end; r++)
            {
                ScoreRowContext context = modification.IsPlain ? default : ScoreRowContext.Of(problem, sequence, at.RowQuery[r], at.RowHead[r], tile);
                ScoreRow<TS, TV>.Update(
                    at.Scores + ((nint)(r - strip) * TileKeys), firstVector, endVector,
                    Math.Max(at.RowStart[r] - tile, 0), Math.Min(at.RowEnd[r] - tile, TileKeys),
                    ref at.Max[r], ref at.Sum[r], at.Output + ((nint)r * at.OutputStride), at.OutputStride, modification, context, at.Temporary);
            }
        }

        for (int panel = 0; panel * PanelWidth < at.OutputStride; panel++)
        {
            float* value = at.Value + ((nint)panel * PanelWidth * TileKeys);
            for (int t = 0; t < tiles; t++)
            {
                if (start[t] >= stop[t]) continue;
                TTile.Accumulate(
                    at.Scores + ((nint)t * TTile.Rows * TileKeys) + start[t], value + ((nint)start[t] * PanelWidth),
                    at.Output + ((nint)(strip + (t * TTile.Rows)) * at.OutputStride) + (panel * PanelWidth), at.OutputStride, stop[t] - start[t]);
            }
        }
    }

    /// <summary>
    /// Asks for the strip's rows of bias and mask while its scores are being computed: they lie a whole row of keys apart, which no hardware prefetching follows. Without it a bias
    /// of 2k x 2k floats was measured to cost a third of the rest, and with it a fifth (AVX2, D = 128).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PrefetchScoreTensors(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in Layout at, int tile, int strip, int stripEnd)
    {
        const int CacheLine = 64;
        int biasBytes = TileKeys * problem.BiasType.Size();
        for (int r = strip; r < Math.Min(stripEnd, item.RowCount); r++)
        {
            ScoreRowContext row = ScoreRowContext.Of(problem, sequence, at.RowQuery[r], at.RowHead[r], tile);
            for (int i = 0; row.Bias != null && i < biasBytes; i += CacheLine) TS.Prefetch(row.Bias + i);
            for (int i = 0; row.Mask != null && i < TileKeys; i += CacheLine) TS.Prefetch(row.Mask + i);
        }
    }

    /// <summary>Where things lie in a worker's scratch memory.</summary>
    private readonly struct Layout
    {
        public readonly int PaddedRows;
        public readonly int OutputStride;
        public readonly long Bytes;
        public readonly float* Query;
        public readonly float* Output;
        public readonly float* Max;
        public readonly float* Sum;
        public readonly float* Key;
        public readonly float* Value;
        public readonly float* Scores;
        public readonly float* Temporary;
        public readonly nint* KeyRows;
        public readonly nint* ValueRows;
        public readonly int* RowQuery;
        public readonly int* RowHead;
        public readonly int* RowStart;
        public readonly int* RowEnd;

        public Layout(byte* scratch, int rows, int keyDim, int valueDim)
        {
            var memory = new ScratchMemory(scratch);
            PaddedRows = (rows + TTile.Rows - 1) / TTile.Rows * TTile.Rows;
            OutputStride = (valueDim + PanelWidth - 1) / PanelWidth * PanelWidth;
            Query = memory.Take<float>(((long)PaddedRows * keyDim) + QueryPacking<TS, TV, TTile>.Overrun);
            Output = memory.Take<float>((long)PaddedRows * OutputStride);
            Max = memory.Take<float>(rows);
            Sum = memory.Take<float>(rows);
            Key = memory.Take<float>((long)TileKeys * keyDim);
            Value = memory.Take<float>((long)TileKeys * OutputStride);
            Scores = memory.Take<float>((long)Math.Min(StripRows, PaddedRows) * TileKeys);
            Temporary = memory.Take<float>(Math.Max((long)TileKeys, (long)Math.Max(PanelWidth, TTile.Rows) * keyDim));
            KeyRows = memory.Take<nint>(TileKeys);
            ValueRows = memory.Take<nint>(TileKeys);
            RowQuery = memory.Take<int>(rows);
            RowHead = memory.Take<int>(rows);
            RowStart = memory.Take<int>(rows);
            RowEnd = memory.Take<int>(rows);
            Bytes = memory.Used;
        }
    }
}
