using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Prefill;

/// <content>One strip of rows against one packed tile of keys.</content>
internal static unsafe partial class PrefillKernel<TS, TV, TTile>
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunStrip(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, in KeyTile tile, bool hasLargeKeys, bool onlySeen,
        int strip, int stripEnd)
    {
        int* start = at.Starts(tile.Parity) + (strip / TTile.Rows);
        int* stop = at.Stops(tile.Parity) + (strip / TTile.Rows);
        int tiles = (stripEnd - strip) / TTile.Rows;
        int stripStart = TileKeys;
        int stripStop = 0;
        for (int t = 0; t < tiles; t++)
        {
            if (start[t] >= stop[t]) continue;
            stripStart = Math.Min(stripStart, start[t]);
            stripStop = Math.Max(stripStop, stop[t]);
        }

        if (stripStart >= stripStop) return;
        if (problem.Bias != null || problem.Mask != null) PrefetchScoreTensors(problem, sequence, item, at, tile.First, start, stop, strip, stripEnd);

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

        for (int t = 0; !problem.KeyScale.IsAbsent && t < tiles; t++)
        {
            if (start[t] < stop[t]) ScaleRows<TS, TV>.ScaleScores(at.Scores + ((nint)t * TTile.Rows * TileKeys), TileKeys, TTile.Rows, at.KeyScales, FirstVector(start[t]), EndVector(stop[t]));
        }

        if (hasLargeKeys) MarkLargeScores(problem, sequence, item, at, tile, start, stop, strip, stripEnd);
        if (onlySeen)
        {
            AddSeenValues(problem, sequence, item, units, at, tile, start, stop, strip, stripEnd);
            return;
        }

        for (int t = 0; t < tiles; t++)
        {
            int firstRow = strip + (t * TTile.Rows);
            if (start[t] < stop[t]) Softmax(problem, sequence, units, at, tile.First, start[t], stop[t], strip, firstRow, Math.Min(firstRow + TTile.Rows, item.RowCount), null);
        }

        for (int t = 0; !problem.ValueScale.IsAbsent && t < tiles; t++)
        {
            if (start[t] < stop[t]) ScaleRows<TS, TV>.ScaleWeights(at.Scores + ((nint)t * TTile.Rows * TileKeys), TileKeys, TTile.Rows, at.ValueScales, FirstVector(start[t]), EndVector(stop[t]));
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

    /// <summary>The first vector of the panel of a key.</summary>
    private static int FirstVector(int start) => start / PanelWidth * 2;

    /// <summary>The end of the vectors of the panels of keys that end here.</summary>
    private static int EndVector(int stop) => (stop + PanelWidth - 1) / PanelWidth * 2;

    /// <summary>Rows of one register tile from scores to weights. One row at a time tells what its score function excludes, if <paramref name="excluded"/> is not null.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Softmax(
        AttentionProblem problem, in SequenceProblem sequence, in ScoreUnits units, in PrefillLayout at, long tile, int start, int stop, int strip, int firstRow, int endRow, bool* excluded)
    {
        int firstVector = FirstVector(start);
        int endVector = EndVector(stop);
        float* scores = at.Scores + ((nint)(firstRow - strip) * TileKeys);
        float* output = at.Output + ((nint)firstRow * at.OutputStride);
        if (units.IsPlain)
        {
            ScoreRow<TS, TV>.UpdateRows(
                scores, TileKeys, endRow - firstRow, firstVector, endVector, tile, at.RowStart + firstRow, at.RowEnd + firstRow, at.Max + firstRow, at.Sum + firstRow,
                output, at.OutputStride, units.Factor);
            return;
        }

        Unsafe.SkipInit(out FunctionPlace functions);
        for (int r = firstRow; r < endRow; r++)
        {
            ScoreRowContext context = ScoreRowContext.Of(problem, sequence, at.RowQuery[r], at.RowHead[r], tile, &functions, excluded);
            ScoreRow<TS, TV>.Update(
                scores, firstVector, endVector, (int)Math.Max(at.RowStart[r] - tile, start), (int)Math.Min(at.RowEnd[r] - tile, stop),
                ref at.Max[r], ref at.Sum[r], output, at.OutputStride, units, context, at.Temporary);
            scores += TileKeys;
            output += at.OutputStride;
        }
    }

    /// <summary>
    /// Softmax and O += P V where a value is infinite or NaN: row by row, and only over keys that the row sees, since 0 times such a value is NaN. The same chains of multiply-adds as a register tile's,
    /// less those that would add 0, so the bits are those that zeros at hidden keys would give.
    /// </summary>
    private static void AddSeenValues(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, in KeyTile tile, int* starts, int* stops, int strip, int stripEnd)
    {
        bool* excluded = stackalloc bool[TileKeys];
        for (int r = strip; r < Math.Min(stripEnd, item.RowCount); r++)
        {
            int t = (r - strip) / TTile.Rows;
            if (starts[t] >= stops[t]) continue;
            new Span<bool>(excluded, TileKeys).Clear();
            Softmax(problem, sequence, units, at, tile.First, starts[t], stops[t], strip, r, r + 1, excluded);
            var visibility = new RowVisibility(problem, sequence, at.RowQuery[r], at.RowHead[r]);
            float* weights = at.Scores + ((nint)(r - strip) * TileKeys);
            if (!problem.ValueScale.IsAbsent) ScaleRows<TS, TV>.ScaleWeights(weights, TileKeys, 1, at.ValueScales, FirstVector(starts[t]), EndVector(stops[t]));
            for (int panel = 0; panel * PanelWidth < at.OutputStride; panel++)
            {
                float* value = at.Value + ((nint)panel * PanelWidth * TileKeys);
                float* output = at.Output + ((nint)r * at.OutputStride) + (panel * PanelWidth);
                TV sum0 = TS.Zero, sum1 = TS.Zero;
                for (int j = starts[t]; j < stops[t]; j++)
                {
                    if (weights[j] == 0 && (excluded[j] || !Sees(at, visibility, r, tile.First + j))) continue;
                    TV weight = TS.Create(weights[j]);
                    sum0 = TS.MultiplyAdd(weight, TS.Load(value + ((nint)j * PanelWidth)), sum0);
                    sum1 = TS.MultiplyAdd(weight, TS.Load(value + ((nint)j * PanelWidth) + TS.Width), sum1);
                }

                TS.Store(output, TS.Add(TS.Load(output), sum0));
                TS.Store(output + TS.Width, TS.Add(TS.Load(output + TS.Width), sum1));
            }
        }
    }

    /// <summary>Marks rows with a seen key whose dot product leaves <see cref="FloatRange"/>: a sum of NaN has the row computed again at its end.</summary>
    private static void MarkLargeScores(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at, in KeyTile tile, int* starts, int* stops, int strip, int stripEnd)
    {
        for (int r = strip; r < Math.Min(stripEnd, item.RowCount); r++)
        {
            int t = (r - strip) / TTile.Rows;
            var visibility = RowVisibility.OfProducts(problem, sequence, at.RowQuery[r], at.RowHead[r]);
            float* scores = at.Scores + ((nint)(r - strip) * TileKeys);
            for (int j = starts[t]; j < stops[t]; j++)
            {
                if (Math.Abs(scores[j]) <= problem.LargestProduct || !Sees(at, visibility, r, tile.First + j)) continue;
                if (!RowVisibility.IsExcludedByScore(problem, sequence, at.RowQuery[r], at.RowHead[r], tile.First + j)) at.Sum[r] = float.NaN;
            }
        }
    }

    private static bool Sees(in PrefillLayout at, in RowVisibility visibility, int row, long key) => key >= at.RowStart[row] && key < at.RowEnd[row] && visibility.Sees(key);

    /// <summary>
    /// Asks for the strip's rows of bias and mask while its scores are being computed: they lie a whole row of keys apart, which no hardware prefetching follows. Without it a bias
    /// of 2k x 2k floats was measured to cost a third of the rest, and with it a fifth (AVX2, D = 128).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PrefetchScoreTensors(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at, long tile, int* starts, int* stops, int strip, int stripEnd)
    {
        int biasSize = problem.BiasType.Size();
        for (int r = strip; r < Math.Min(stripEnd, item.RowCount); r++)
        {
            int start = starts[(r - strip) / TTile.Rows];
            int stop = stops[(r - strip) / TTile.Rows];
            if (start >= stop) continue;
            byte* bias = problem.BiasOf(sequence, at.RowQuery[r], at.RowHead[r]);
            byte* mask = problem.MaskOf(sequence, at.RowQuery[r], at.RowHead[r]);
            if (bias != null) PrefetchTile(bias + (tile * biasSize), start * biasSize, stop * biasSize, TileKeys * biasSize);
            if (mask != null) PrefetchTile(mask + tile, start, stop, TileKeys);
        }
    }

    /// <summary>Bytes [start, stop) of a row's part in this tile, and the ends of its part in the next one, where <see cref="Narrow"/> looks before that tile's scores are computed.</summary>
    private static void PrefetchTile(byte* row, int start, int stop, int tileBytes)
    {
        for (int i = start; i < stop; i += CacheLine) TS.Prefetch(row + i);
        if (stop < tileBytes) return;
        TS.Prefetch(row + tileBytes);
        TS.Prefetch(row + (2 * tileBytes) - 1);
    }
}
