using System.Runtime.CompilerServices;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Prefill;

/// <content>
/// bfloat16 by tile products: the same items, tiles of keys and softmax, with products of bfloat16 and weights rounded to it. Outputs are divided by the sum of the rounded weights, so that equal values average to
/// themselves; log-sum-exps are of the exact ones. <typeparamref name="TTile"/> is <see cref="TileStrip"/> here.
/// </content>
/// <remarks>
/// What a row may not see does not show: weights there are 0 and products with 0 add nothing, and an item with a value that is infinite or NaN is computed once more without such values, which then
/// count in the rows that see them.
/// </remarks>
internal static unsafe partial class PrefillKernel<TS, TV, TTile>
{
    /// <summary>Whether the call is served: the buffers of the float kernel hold the tiles from 16 dims on, and no function of scores excludes keys whose values would have to be left out.</summary>
    public static bool TakesTiles(AttentionProblem problem) => problem.KeyDim is >= 16 and <= 256 && problem.ValueDim is >= 16 and <= 256 && problem.ScoreFunction is null && problem.MaskFunction is null;

    /// <summary>Working memory of an item by tile products.</summary>
    public static long TileScratchBytes(in PrefillSizes sizes) => ScratchBytes(sizes) + ((long)sizes.Rows * sizeof(float));

    public static void RunTiles(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch, TileKernels kernels)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        PrefillLayout at = LayoutOf(scratch, new(item.RowCount, problem.KeyDim, problem.ValueDim, PrefillSizes.AreLong(sequence.KeyLength)));
        float* rounding = (float*)(scratch + at.Bytes);
        SumTiles(problem, sequence, item, units, at, rounding, kernels, withoutSpecials: false);
        if (WriteRows(problem, sequence, item, units, at)) return;
        SumTiles(problem, sequence, item, units, at, rounding, kernels, withoutSpecials: true);
        for (int r = 0; r < item.RowCount; r++)
        {
            RowEnd<TS, TV>.Write(problem, sequence, at.RowQuery[r], at.RowHead[r], at.Max[r], at.Sum[r], at.Output + ((nint)r * at.OutputStride), units);
        }
    }

    /// <param name="problem">The call.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="item">The block of rows.</param>
    /// <param name="units">What the stored scores stand for.</param>
    /// <param name="at">Where things are.</param>
    /// <param name="rounding">For each row what rounding has added to the sum of its weights.</param>
    /// <param name="kernels">The products.</param>
    /// <param name="withoutSpecials">Whether infinite and NaN values count as 0 in products and mark the rows that see them.</param>
    private static void SumTiles(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, float* rounding, TileKernels kernels, bool withoutSpecials)
    {
        KeyRange block = Start(problem, sequence, item, at);
        new Span<float>(rounding, item.RowCount).Clear();
        if (block.IsEmpty) return;
        PackTileQueries(problem, sequence, item, at);
        nint keyOffset = (nint)(item.Head * problem.KeyHeadStride * sizeof(ushort));
        nint valueOffset = (nint)(item.Head * problem.ValueHeadStride * sizeof(ushort));
        int valueTiles = TilePacking.ValueBlocks(problem.ValueDim) * (TileKeys / 32);
        byte* values = (byte*)at.Value;
        byte* specials = values + ((nint)valueTiles * TileScores.TileBytes);
        KeyTile tile = Next(problem, sequence, item, at, block, block.Start / TileKeys * TileKeys, parity: 0);
        long longBlock = tile.First / PrefillTiles.LongKeys;
        while (!tile.IsEmpty)
        {
            if (tile.First / PrefillTiles.LongKeys != longBlock)
            {
                longBlock = tile.First / PrefillTiles.LongKeys;
                Settle(at, item.RowCount, rounding);
                LongSums.Add(at, item.RowCount, units);
            }

            bool hasLargeKeys = TilePacking.PackKeys(at.KeyRows, keyOffset, tile.Start, tile.Stop, problem.KeyDim, (byte*)at.Key);
            TilePacking.PackValues(at.ValueRows, valueOffset, tile.Start, tile.Stop, problem.ValueDim, values);
            if (withoutSpecials)
            {
                Buffer.MemoryCopy(values, specials, (long)valueTiles * TileScores.TileBytes, (long)valueTiles * TileScores.TileBytes);
                TilePacking.ClearSpecialValues(values, valueTiles);
            }

            KeyTile next = Next(problem, sequence, item, at, block, tile.First + TileKeys, tile.Parity ^ 1);
            for (int strip = 0; strip < at.PaddedRows; strip += StripRows)
            {
                PrefetchShare(problem, item.Head, next, at, strip);
                RunTileStrip(problem, sequence, item, units, at, rounding, kernels, tile, hasLargeKeys, withoutSpecials ? specials : null, strip);
            }

            tile = next;
        }

        Settle(at, item.RowCount, rounding);
        LongSums.Finish(at, item.RowCount, units);
    }

    /// <summary>Brings outputs, which are sums by rounded weights, to the sum of the exact ones.</summary>
    private static void Settle(in PrefillLayout at, int rows, float* rounding)
    {
        for (int r = 0; r < rows; r++)
        {
            if (rounding[r] == 0) continue;
            TV factor = TS.Create(at.Sum[r] / (at.Sum[r] + rounding[r]));
            float* output = at.Output + ((nint)r * at.OutputStride);
            for (int d = 0; d < at.OutputStride; d += TS.Width) TS.Store(output + d, TS.Multiply(TS.Load(output + d), factor));
            rounding[r] = 0;
        }
    }

    /// <summary>Packs the rows; missing ones are zeros. Rows with a query that leaves <see cref="FloatRange"/> get a sum of NaN.</summary>
    private static void PackTileQueries(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at)
    {
        int rowBytes = TilePacking.KeyBlocks(problem.KeyDim) * 64;
        if (item.RowCount < at.PaddedRows) new Span<byte>((byte*)at.Query + ((nint)(at.PaddedRows - StripRows) * rowBytes), StripRows * rowBytes).Clear();
        for (int r = 0; r < item.RowCount; r++)
        {
            ushort* row = (ushort*)problem.QueryOf(sequence, at.RowQuery[r], at.RowHead[r]);
            if (!TilePacking.PackQuery((byte*)row, problem.KeyDim, (byte*)at.Query, r)) continue;
            float largest = 0;
            for (int d = 0; d < problem.KeyDim; d++) largest = Math.Max(largest, Math.Abs(Numerics.ScalarSimd.LoadBFloat16(row + d)));     // NaN stays
            if (!(largest <= problem.LargestQuery)) at.Sum[r] = float.NaN;
        }
    }

    // Like RunStrip, with the strip as one register tile of rows.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    private static void RunTileStrip(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, float* rounding, TileKernels kernels, in KeyTile tile, bool hasLargeKeys, byte* specials, int strip)
    {
        int* start = at.Starts(tile.Parity) + (strip / TTile.Rows);
        int* stop = at.Stops(tile.Parity) + (strip / TTile.Rows);
        if (*start >= *stop) return;
        int stripEnd = Math.Min(strip + StripRows, at.PaddedRows);
        if (problem.Bias != null || problem.Mask != null) PrefetchScoreTensors(problem, sequence, item, at, tile.First, start, stop, strip, stripEnd);

        int firstBlock = *start / 32;
        int blocks = ((*stop + 31) / 32) - firstBlock;
        int rowBytes = TilePacking.KeyBlocks(problem.KeyDim) * 64;
        var scores = new TileScoresBlock
        {
            Configuration = TileConfiguration.Whole,
            Query = (byte*)at.Query + ((nint)strip * rowBytes),
            Keys = (byte*)at.Key + ((nint)firstBlock * 32 * rowBytes),
            Scores = at.Scores + (firstBlock * 32),
            KeyPairs = blocks,
        };
        kernels.Scores(&scores);
        if (hasLargeKeys) MarkLargeScores(problem, sequence, item, at, tile, start, stop, strip, stripEnd);
        int rows = Math.Min(stripEnd, item.RowCount) - strip;
        float* before = stackalloc float[TTile.Rows];
        for (int r = 0; r < rows; r++) before[r] = at.Max[strip + r];
        Softmax(problem, sequence, units, at, tile.First, *start, *stop, strip, strip, strip + rows, null);

        int firstVector = *start / PanelWidth * 2;
        int endVector = (*stop + PanelWidth - 1) / PanelWidth * 2;
        for (int r = 0; r < TTile.Rows; r++)
        {
            float* weights = at.Scores + ((nint)r * TileKeys);
            if (r >= rows)
            {
                new Span<byte>((byte*)weights + (firstBlock * 64), blocks * 64).Clear();
                continue;
            }

            // A new maximum rescales what the old one's weights have left, as it does their sum.
            float max = at.Max[strip + r];
            if (max > before[r]) rounding[strip + r] *= float.IsNegativeInfinity(before[r]) ? 0 : MathF.Pow(2, (before[r] - max) * units.Factor);
            rounding[strip + r] += TilePacking.RoundWeights(weights, firstVector, endVector);
        }

        var sums = new TileSumsBlock
        {
            Configuration = TileConfiguration.Whole,
            Weights = (byte*)at.Scores + (firstBlock * 64),
            Values = (byte*)at.Value + ((nint)firstBlock * TileScores.TileBytes),
            Output = at.Output + ((nint)strip * at.OutputStride),
            KeyBlocks = blocks,
        };
        kernels.Sums(&sums);
        if (specials != null) MarkSpecialValues(problem, sequence, item, at, tile, specials, *start, *stop, strip, rows);
    }

    /// <summary>A column of a row that sees an infinite or NaN value becomes NaN, which has it computed again at the row's end.</summary>
    private static void MarkSpecialValues(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at, in KeyTile tile, byte* specials, int start, int stop, int strip, int rows)
    {
        for (int r = strip; r < strip + rows; r++)
        {
            var visibility = new RowVisibility(problem, sequence, at.RowQuery[r], at.RowHead[r]);
            for (int j = start; j < stop; j++)
            {
                if (!Sees(at, visibility, r, tile.First + j)) continue;
                for (int d = 0; d < problem.ValueDim; d++)
                {
                    if (TilePacking.IsSpecial(TilePacking.ValueAt(specials, j, d))) at.Output[((nint)r * at.OutputStride) + d] = float.NaN;
                }
            }
        }
    }
}
