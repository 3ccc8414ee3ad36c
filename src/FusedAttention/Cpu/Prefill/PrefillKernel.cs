using System.Runtime.CompilerServices;
using FusedAttention.Cpu.MachineCode.Kernels;
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
/// <para>Tiles of keys that no row sees, by position, mask or bias, are neither read nor computed; inside a tile each register tile of rows works on the least interval with all keys that its rows see.</para>
/// </remarks>
internal static unsafe partial class PrefillKernel<TS, TV, TTile>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TTile : struct, IRegisterTile
{
    private const int TileKeys = PrefillTiles.Keys;
    private const int CacheLine = 64;

    // Output rows that are asked for before they are written: stores that wait for their lines hold up those behind them.
    private const int OutputsAhead = 8;

    /// <summary>Columns of a panel: the two vectors of a register tile.</summary>
    private static int PanelWidth => 2 * TS.Width;

    /// <summary>Rows of a strip: whole register tiles.</summary>
    private static int StripRows => Math.Max(1, PrefillTiles.StripRows / TTile.Rows) * TTile.Rows;

    public static long ScratchBytes(in PrefillSizes sizes) => LayoutOf(null, sizes).Bytes;

    /// <param name="problem">The call.</param>
    /// <param name="item">The block of rows.</param>
    /// <param name="units">What the stored scores stand for.</param>
    /// <param name="scratch">The worker's memory.</param>
    /// <param name="narrow">Machine code for elements of 16 and 8 bits; null for intrinsics.</param>
    public static void Run(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch, NarrowKernels? narrow)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        PrefillLayout at = LayoutOf(scratch, new(item.RowCount, problem.KeyDim, problem.ValueDim, PrefillSizes.AreLong(sequence.KeyLength), problem.KeyValueType.TakesScales()));
        Sum(problem, sequence, item, units, at, narrow, onlySeen: false);
        if (WriteRows(problem, sequence, item, units, at)) return;

        // An infinite or NaN value at a key that some row does not see has come through as 0 times it: once more, with weights of seen keys only. What is not finite then is so by right, or overflowed.
        Sum(problem, sequence, item, units, at, narrow, onlySeen: true);
        for (int r = 0; r < item.RowCount; r++)
        {
            RowEnd<TS, TV>.Write(problem, sequence, at.RowQuery[r], at.RowHead[r], at.Max[r], at.Sum[r], at.Output + ((nint)r * at.OutputStride), units);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sum(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, NarrowKernels? narrow, bool onlySeen)
    {
        KeyRange block = Start(problem, sequence, item, at);
        if (block.IsEmpty) return;
        if (QueryPacking<TS, TV, TTile>.Pack(problem, sequence, item, at.Query, at.Temporary)) MarkLargeQueries(problem, item, at);
        KeyTile tile = Next(problem, sequence, item, at, block, block.Start / TileKeys * TileKeys, parity: 0);
        long longBlock = tile.First / PrefillTiles.LongKeys;
        while (!tile.IsEmpty)
        {
            if (tile.First / PrefillTiles.LongKeys != longBlock)
            {
                longBlock = tile.First / PrefillTiles.LongKeys;
                LongSums.Add(at, item.RowCount, units);
            }

            bool hasLargeKeys = KeyValuePacking<TS, TV>.Pack(problem, item.Head, tile.Start, tile.Stop, at.KeyRows, at.ValueRows, at.Key, at.Value, at.Temporary, narrow);
            if (problem.KeyValueType.TakesScales()) hasLargeKeys |= GatherScales(problem, sequence, item, at, tile);

            // The addresses have served; from now on they are those of the next tile, which the strips ask for bit by bit while they compute this one.
            KeyTile next = Next(problem, sequence, item, at, block, tile.First + TileKeys, tile.Parity ^ 1);
            for (int strip = 0; strip < at.PaddedRows; strip += StripRows)
            {
                PrefetchShare(problem, item.Head, next, at, strip);
                RunStrip(problem, sequence, item, units, at, tile, hasLargeKeys, onlySeen, strip, Math.Min(strip + StripRows, at.PaddedRows));
            }

            tile = next;
        }

        LongSums.Finish(at, item.RowCount, units);
    }

    /// <summary>Writes the rows. Says whether their outputs are finite.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool WriteRows(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at)
    {
        int outputBytes = problem.ValueDim * problem.QueryType.Size();
        TV check = TS.Zero;
        for (int r = 0; r < item.RowCount; r++)
        {
            if (r + OutputsAhead < item.RowCount)
            {
                byte* ahead = problem.OutputOf(sequence, at.RowQuery[r + OutputsAhead], at.RowHead[r + OutputsAhead]);
                for (int i = 0; i < outputBytes; i += CacheLine) TS.Prefetch(ahead + i);
            }

            RowEnd<TS, TV>.Write(problem, sequence, at.RowQuery[r], at.RowHead[r], at.Max[r], at.Sum[r], at.Output + ((nint)r * at.OutputStride), units, ref check);
        }

        return TS.Sum(check) == 0;
    }

    private static PrefillLayout LayoutOf(byte* scratch, in PrefillSizes sizes) =>
        new(scratch, sizes, TTile.Rows, StripRows, TS.Width, QueryPacking<TS, TV, TTile>.Overrun);

    /// <summary>Clears the state and finds each row's keys by position. Returns the keys of all of them together.</summary>
    private static KeyRange Start(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at)
    {
        for (int r = 0; r < item.RowCount; r++)
        {
            (at.RowQuery[r], at.RowHead[r]) = problem.RowAt(item.Head, item.RowStart + r);
            KeyRange range = problem.RangeOf(sequence, at.RowQuery[r]);
            at.RowStart[r] = range.Start;
            at.RowEnd[r] = range.End;
            at.Max[r] = float.NegativeInfinity;
            at.Sum[r] = 0;
        }

        new Span<float>(at.Output, at.PaddedRows * at.OutputStride).Clear();
        LongSums.Start(at, item.RowCount);
        return problem.RangeOf(sequence, at.RowQuery[0], at.RowQuery[item.RowCount - 1]);
    }

    /// <summary>Gathers the scales of a tile of 8-bit keys and values. Says whether one of a key, hidden ones included, leaves <see cref="FloatRange"/>.</summary>
    private static bool GatherScales(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at, in KeyTile tile)
    {
        (int start, int end) = ((int)(tile.First + tile.Start), (int)(tile.First + tile.Stop));
        bool isBeyond = false;
        if (!problem.KeyScale.IsAbsent)
            isBeyond = ScaleRows<TS, TV>.Gather(problem, sequence, problem.KeyScale, sequence.KeyScaleStart, item.Head, 1, start, end, FloatRange.LargestKeyScale, at.KeyScales + tile.Start, 0);
        if (!problem.ValueScale.IsAbsent)
            ScaleRows<TS, TV>.Gather(problem, sequence, problem.ValueScale, sequence.ValueScaleStart, item.Head, 1, start, end, float.PositiveInfinity, at.ValueScales + tile.Start, 0);
        return isBeyond;
    }

    /// <summary>Marks rows whose query leaves <see cref="FloatRange"/>: a sum of NaN has the row computed again at its end.</summary>
    private static void MarkLargeQueries(AttentionProblem problem, in WorkItem item, in PrefillLayout at)
    {
        for (int r = 0; r < item.RowCount; r++)
        {
            float* row = at.Query + ((nint)(r / TTile.Rows) * TTile.Rows * problem.KeyDim) + (r % TTile.Rows);
            float largest = 0;
            for (int d = 0; d < problem.KeyDim; d++) largest = Math.Max(largest, Math.Abs(row[(nint)d * TTile.Rows]));     // NaN stays
            if (!(largest <= problem.LargestQuery)) at.Sum[r] = float.NaN;
        }
    }

    /// <summary>
    /// The first tile of keys from <paramref name="first"/> on in which a row of the item sees a key, with the addresses of its keys and, for each register tile, the interval that its rows see.
    /// Masks and biases are looked at before keys and values: where they exclude a whole tile, it is passed over.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static KeyTile Next(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at, KeyRange block, long first, int parity)
    {
        bool byPosition = !problem.HasVisibility;
        int* starts = at.Starts(parity);
        int* stops = at.Stops(parity);
        for (; first < block.End; first += TileKeys)
        {
            int start = TileKeys;
            int stop = 0;
            for (int t = 0; t < at.RegisterTiles; t++)
            {
                int firstRow = t * TTile.Rows;
                int endRow = Math.Min(firstRow + TTile.Rows, item.RowCount);
                starts[t] = (int)Math.Max(at.RowStart[firstRow] - first, 0);
                stops[t] = (int)Math.Min(at.RowEnd[endRow - 1] - first, TileKeys);
                if (starts[t] < stops[t] && !byPosition) Narrow(problem, sequence, at, first, firstRow, endRow, ref starts[t], ref stops[t]);
                if (starts[t] >= stops[t]) continue;
                start = Math.Min(start, starts[t]);
                stop = Math.Max(stop, stops[t]);
            }

            if (start >= stop) continue;
            KeyRows.Locate(problem, sequence, (int)(first + start), (int)(first + stop), at.KeyRows + start, at.ValueRows + start);
            return new KeyTile(first, start, stop, parity);
        }

        return default;
    }

    /// <summary>Narrows the interval of a register tile to what the masks, mask functions and biases of its rows leave of it.</summary>
    [SkipLocalsInit]
    private static void Narrow(AttentionProblem problem, in SequenceProblem sequence, in PrefillLayout at, long tile, int firstRow, int endRow, ref int start, ref int stop)
    {
        if (problem.HidesByTensor && !VisibleColumns.AreNeededByOne(problem, sequence, at.RowQuery[firstRow], at.RowHead[firstRow], tile + start, tile + stop))
        {
            nint* room = stackalloc nint[2 * TTile.Rows];
            var columns = new VisibleColumns(problem, room, TTile.Rows);
            for (int r = firstRow; r < endRow; r++) columns.Add(problem, sequence, at.RowQuery[r], at.RowHead[r]);
            int firstKey = (int)(tile + start);
            int endKey = (int)(tile + stop);
            columns.Narrow(ref firstKey, ref endKey);
            start = (int)(firstKey - tile);
            stop = (int)(endKey - tile);
        }

        if (start < stop && problem.BoundMask is { } mask) NarrowByFunction(problem, mask, sequence, at, tile, firstRow, endRow, ref start, ref stop);
    }

    /// <summary>
    /// The least interval with all keys that the function keeps for one of the rows. Of each row only what would widen it is looked at, from both ends: a function that keeps the ends costs two vectors a row, and one that
    /// keeps nothing a few operations for each vector of the tile, against two multiply-adds a dimension.
    /// </summary>
    private static void NarrowByFunction(
        AttentionProblem problem, BoundMask mask, in SequenceProblem sequence, in PrefillLayout at, long tile, int firstRow, int endRow, ref int start, ref int stop)
    {
        bool byHead = problem.MaskFunction!.DependsOnHead;
        int first = (int)tile + stop, last = (int)tile + start;
        (int firstKey, int endKey) = (last, first);
        for (int r = firstRow; r < endRow; r++)
        {
            // Heads of one query stand side by side.
            if (!byHead && r > firstRow && at.RowQuery[r] == at.RowQuery[r - 1]) continue;
            FunctionRow row = AttentionProblem.FunctionRowOf(sequence, at.RowQuery[r], at.RowHead[r]);
            (int ownStart, int ownEnd) = (Math.Max(at.RowStart[r], firstKey), Math.Min(at.RowEnd[r], endKey));
            int outside = Math.Min(ownEnd, first);
            int kept = ownStart < outside ? mask.First(row, ownStart, outside) : outside;
            if (kept < outside) first = kept;
            else if (outside == ownEnd) continue;     // nothing before what others need, and nothing behind that
            outside = Math.Max(ownStart, last);
            if (outside < ownEnd) last = mask.End(row, outside, ownEnd);
        }

        start = (int)(first - tile);
        stop = (int)(last - tile);
    }

    /// <summary>
    /// Asks for the part of the next tile's keys that falls to a strip. Rows of one head lie a token apart, which hardware prefetching does not follow: packing
    /// took 9 % of the time without this (D = 128, 2k keys).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PrefetchShare(AttentionProblem problem, int head, in KeyTile next, in PrefillLayout at, int strip)
    {
        int size = problem.KeyValueType.Size();
        nint keyOffset = (nint)(head * problem.KeyHeadStride * size);
        nint valueOffset = (nint)(head * problem.ValueHeadStride * size);
        int keyBytes = problem.KeyValueType.RowBytes(problem.KeyDim);
        int valueBytes = problem.KeyValueType.RowBytes(problem.ValueDim);
        long keys = next.Stop - next.Start;
        int end = next.Start + (int)(keys * Math.Min(strip + StripRows, at.PaddedRows) / at.PaddedRows);
        for (int j = next.Start + (int)(keys * strip / at.PaddedRows); j < end; j++)
        {
            for (int i = 0; i < keyBytes; i += CacheLine) TS.Prefetch((byte*)(at.KeyRows[j] + keyOffset + i));
            for (int i = 0; i < valueBytes; i += CacheLine) TS.Prefetch((byte*)(at.ValueRows[j] + valueOffset + i));
        }
    }
}

/// <summary>A tile of keys that some row sees.</summary>
/// <param name="First">The position of its first place, a multiple of the tile size.</param>
/// <param name="Start">Keys [Start, Stop) of it, relative to that place, are needed.</param>
/// <param name="Stop">See <paramref name="Start"/>; 0 for the tile after the last one.</param>
/// <param name="Parity">Which of the layout's two sets of intervals is the tile's.</param>
internal readonly record struct KeyTile(long First, int Start, int Stop, int Parity)
{
    public bool IsEmpty => Stop == 0;
}
