using System.Runtime.CompilerServices;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Memory;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Prefill;

/// <content>
/// bfloat16 by tile products: the same items and tiles of keys, with products of bfloat16 and weights rounded to it. Scores and outputs are transposed, S^T = K Q^T and O^T += V^T P^T, so that rows are lanes
/// (<see cref="TileSoftmax"/>). Outputs are divided by the sum of the rounded weights, so that equal values average to themselves; log-sum-exps are of the exact ones. <typeparamref name="TTile"/> is <see cref="TileStrip"/> here.
/// </content>
/// <remarks>
/// <para>Calls with more than positions, in scores or masks, have their scores transposed once more, to rows, which go through <see cref="ScoreRow{TS, TV}"/>.</para>
/// <para>What a row may not see does not show: weights there are 0 and products with 0 add nothing, and an item with a value that is infinite or NaN is computed once more without such values, which then
/// count in the rows that see them.</para>
/// </remarks>
internal static unsafe partial class PrefillKernel<TS, TV, TTile>
{
    /// <summary>
    /// Whether a call is served: bfloat16 throughout, dimensions whose tiles the buffers of the float kernel hold, which they do from 16 on, and no function of scores, which may exclude keys whose values would have to be left out.
    /// </summary>
    public static bool TakesTiles(AttentionProblem problem) => problem is
    {
        QueryType: AttentionElementType.BFloat16, KeyValueType: AttentionElementType.BFloat16, KeyDim: >= 16 and <= 256, ValueDim: >= 16 and <= 256, ScoreFunction: null, MaskFunction: null,
    };

    /// <summary>Working memory of an item by tile products.</summary>
    public static long TileScratchBytes(in PrefillSizes sizes) => new TileLayout(null, LayoutOf(null, sizes), sizes).Bytes;

    public static void RunTiles(AttentionProblem problem, in WorkItem item, in ScoreUnits units, byte* scratch, TileKernels kernels)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        var sizes = new PrefillSizes(item.RowCount, problem.KeyDim, problem.ValueDim, PrefillSizes.AreLong(sequence.KeyLength));
        PrefillLayout at = LayoutOf(scratch, sizes);
        var tiles = new TileLayout(scratch, at, sizes);
        SumTiles(problem, sequence, item, units, at, tiles, kernels, withoutSpecials: false);
        if (!WriteRows(problem, sequence, item, units, at))
        {
            SumTiles(problem, sequence, item, units, at, tiles, kernels, withoutSpecials: true);
            for (int r = 0; r < item.RowCount; r++)
            {
                RowEnd<TS, TV>.Write(problem, sequence, at.RowQuery[r], at.RowHead[r], at.Max[r], at.Sum[r], at.Output + ((nint)r * at.OutputStride), units);
            }
        }

        if (problem.LogSumExp == null) return;
        for (int r = 0; r < item.RowCount; r++)
        {
            // Rows in double precision have written theirs.
            if (!float.IsNaN(at.Sum[r]) && !float.IsNaN(tiles.Exact[r])) RowEnd<TS, TV>.WriteLogSumExp(problem, sequence, at.RowQuery[r], at.RowHead[r], at.Max[r], tiles.Exact[r], units);
        }
    }

    /// <param name="problem">The call.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="item">The block of rows.</param>
    /// <param name="units">What the stored scores stand for.</param>
    /// <param name="at">Where things are.</param>
    /// <param name="tiles">Where those of tile products are.</param>
    /// <param name="kernels">The products.</param>
    /// <param name="withoutSpecials">Whether infinite and NaN values count as 0 in products and mark the rows that see them.</param>
    private static void SumTiles(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, in TileLayout tiles, TileKernels kernels, bool withoutSpecials)
    {
        KeyRange block = Start(problem, sequence, item, at);
        for (int r = item.RowCount; r < at.PaddedRows; r++) (at.Max[r], at.Sum[r]) = (float.NegativeInfinity, 0);
        new Span<float>(tiles.Exact, at.PaddedRows).Clear();
        if (block.IsEmpty) return;
        PackTileQueries(problem, sequence, item, at);
        tiles.Stages->Set(units.Factor, TileSoftmax.LargestExponent);
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
                TransposeOutputs(at, tiles);
                LongSums.Add(at, item.RowCount, units, tiles.Exact, tiles.LongExact);
                new Span<float>(at.Output, at.PaddedRows * at.OutputStride).Clear();
            }

            bool hasLargeKeys = TilePacking.PackKeys(at.KeyRows, keyOffset, tile.Start, tile.Stop, problem.KeyDim, (byte*)at.Key);
            TilePacking.PackValues(at.ValueRows, valueOffset, tile.Start, tile.Stop, problem.ValueDim, values);
            if (withoutSpecials)
            {
                Buffer.MemoryCopy(values, specials, (long)valueTiles * TileScores.TileBytes, (long)valueTiles * TileScores.TileBytes);
                TilePacking.ClearSpecialValues(values, valueTiles);
            }

            KeyTile next = Next(problem, sequence, item, at, block, tile.First + TileKeys, tile.Parity ^ 1);
            if (units.IsPlain && !hasLargeKeys && !withoutSpecials && problem.LogSumExp == null)
            {
                RunStages(problem, sequence, item, units, at, tiles, kernels, tile, next);
                tile = next;
                continue;
            }

            for (int strip = 0; strip < at.PaddedRows; strip += TileKernels.Rows)
            {
                PrefetchShare(problem, item.Head, next, at, strip);
                int start = at.Starts(tile.Parity)[strip / TileKernels.Rows], stop = at.Stops(tile.Parity)[strip / TileKernels.Rows];
                if (start >= stop) continue;
                if (units.IsPlain) RunLanes(problem, sequence, item, units, at, tiles, kernels, tile, hasLargeKeys, strip, start, stop);
                else RunRows(problem, sequence, item, units, at, tiles, kernels, tile, hasLargeKeys, strip, start, stop);
                if (withoutSpecials) MarkSpecialValues(problem, sequence, item, at, tile, specials, start, stop, strip);
            }

            tile = next;
        }

        TransposeOutputs(at, tiles);
        LongSums.Finish(at, item.RowCount, units, tiles.Exact, tiles.LongExact);
    }

    /// <summary>Packs the rows; missing ones are zeros. Rows with a query that leaves <see cref="FloatRange"/> get a sum of NaN.</summary>
    [SkipLocalsInit]
    private static void PackTileQueries(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at)
    {
        nint tileBytes = (nint)TilePacking.KeyBlocks(problem.KeyDim) * TileScores.TileBytes;
        nint* rows = stackalloc nint[16];
        for (int first = 0; first < at.PaddedRows; first += 16)
        {
            for (int i = 0; i < 16; i++) rows[i] = first + i < item.RowCount ? (nint)problem.QueryOf(sequence, at.RowQuery[first + i], at.RowHead[first + i]) : 0;
            uint large = TilePacking.PackQueries(rows, problem.KeyDim, (byte*)at.Query + (first / 16 * tileBytes));
            for (int i = 0; large != 0 && i < 16; i++)
            {
                if ((large >> i & 1) == 0) continue;
                float largest = 0;
                for (int d = 0; d < problem.KeyDim; d++) largest = Math.Max(largest, Math.Abs(ScalarSimd.LoadBFloat16((ushort*)rows[i] + d)));     // NaN stays
                if (!(largest <= problem.LargestQuery)) at.Sum[first + i] = float.NaN;
            }
        }
    }

    /// <summary>A strip against keys [start, stop) of a tile where nothing but positions is asked of scores: in lanes, stage by stage.</summary>
    [SkipLocalsInit]
    private static void RunLanes(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, in TileLayout tiles, TileKernels kernels, in KeyTile tile, bool hasLargeKeys,
        int strip, int start, int stop)
    {
        int* starts = stackalloc int[2 * TileKernels.Rows];
        int* stops = starts + TileKernels.Rows;
        int lastStart = 0, firstStop = TileKeys;
        for (int r = 0; r < TileKernels.Rows; r++)
        {
            // Missing rows see what the last one sees.
            int row = Math.Min(strip + r, item.RowCount - 1);
            starts[r] = (int)Math.Clamp(at.RowStart[row] - tile.First, 0, TileKeys);
            stops[r] = (int)Math.Clamp(at.RowEnd[row] - tile.First, 0, TileKeys);
            lastStart = Math.Max(lastStart, starts[r]);
            firstStop = Math.Min(firstStop, stops[r]);
        }

        for (int stage = start / TileSoftmax.Keys * TileSoftmax.Keys; stage < stop; stage += TileSoftmax.Keys)
        {
            int first = Math.Max(start, stage) / 32 * 32, end = (Math.Min(stop, stage + TileSoftmax.Keys) + 31) / 32 * 32;
            MultiplyKeys(problem, at, tiles, kernels, strip, first, end);
            if (hasLargeKeys)
            {
                int seenStart = Math.Max(start, first), seenStop = Math.Min(stop, end);
                TransposeScores(at, tiles, first, end);
                MarkLargeScores(problem, sequence, item, at, tile, &seenStart, &seenStop, strip, strip + TileKernels.Rows);
            }

            if (first < lastStart || end > firstStop) TileSoftmax.Hide(tiles.Scores, first, end, starts, stops);
            TileSoftmax.Update(
                tiles.Scores, end - first, tiles.Weights, at.Max + strip, at.Sum + strip, problem.LogSumExp == null ? null : tiles.Exact + strip,
                at.Output + ((nint)strip * at.OutputStride), at.OutputStride, units.Factor);
            MultiplyValues(at, tiles, kernels, strip, first, end);
        }
    }

    /// <summary>
    /// All strips of a tile where nothing but positions is asked of scores: stages that all rows of a strip see whole, and whose rows' maxima stay, in calls of many; the others by <see cref="RunLanes"/>, with the same bits.
    /// The next tile's keys and values are asked for meanwhile.
    /// </summary>
    private static void RunStages(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, in TileLayout tiles, TileKernels kernels, in KeyTile tile, in KeyTile next)
    {
        int count = 0, asked = 0;
        tiles.Stages->KeyOffset = (nint)(item.Head * problem.KeyHeadStride * sizeof(ushort));
        tiles.Stages->ValueOffset = (nint)(item.Head * problem.ValueHeadStride * sizeof(ushort));
        nint rowBytes = TilePacking.KeyBlocks(problem.KeyDim) * 64;
        for (int strip = 0; strip < at.PaddedRows; strip += TileKernels.Rows)
        {
            int start = at.Starts(tile.Parity)[strip / TileKernels.Rows], stop = at.Stops(tile.Parity)[strip / TileKernels.Rows];
            if (start >= stop) continue;
            long lastStart = at.RowStart[Math.Min(strip + TileKernels.Rows, item.RowCount) - 1] - tile.First, firstStop = at.RowEnd[strip] - tile.First;
            for (int stage = start / TileStages.Keys * TileStages.Keys; stage < stop; stage += TileStages.Keys)
            {
                if (stage < lastStart || stage + TileStages.Keys > firstStop || !TileSoftmax.HaveSeen(at.Max + strip))
                {
                    if (count > 0 && tiles.List[count - 1].Strip == strip) RunList(problem, sequence, item, units, at, tiles, kernels, tile, ref count);
                    RunLanes(problem, sequence, item, units, at, tiles, kernels, tile, hasLargeKeys: false, strip, Math.Max(start, stage), Math.Min(stop, stage + TileStages.Keys));
                    continue;
                }

                TileStage* to = tiles.List + count;
                TileSoftmax.Negate(at.Max + strip, units.Factor, to->Offsets);
                to->Query = (byte*)at.Query + (strip * rowBytes);
                to->Keys = (byte*)at.Key + (stage * rowBytes);
                to->Values = (byte*)at.Value + ((nint)(stage / 32) * TileScores.TileBytes);
                to->Output = (byte*)(at.Output + ((nint)strip * at.OutputStride));
                to->Weights = tiles.StageWeights + ((count & 1) * TileStages.WeightBytes);
                to->Ahead = at.KeyRows + asked;
                asked = Math.Min(asked + TileStages.KeysAhead, TileKeys - TileStages.KeysAhead);
                to->Strip = strip;
                to->First = stage;
                count++;
            }
        }

        RunList(problem, sequence, item, units, at, tiles, kernels, tile, ref count);

        // What few stages have not asked for.
        int size = sizeof(ushort);
        for (int j = Math.Max(asked, next.Start); j < next.Stop && asked < TileKeys - TileStages.KeysAhead; j++)
        {
            for (int i = 0; i < problem.KeyDim * size; i += CacheLine) TS.Prefetch((byte*)(at.KeyRows[j] + tiles.Stages->KeyOffset + i));
            for (int i = 0; i < problem.ValueDim * size; i += CacheLine) TS.Prefetch((byte*)(at.ValueRows[j] + tiles.Stages->ValueOffset + i));
        }
    }

    /// <summary>Runs the stages of the list and empties it. One with a score far above its row's maximum is run by <see cref="RunLanes"/>, and the others go on behind it.</summary>
    private static void RunList(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, in TileLayout tiles, TileKernels kernels, in KeyTile tile, ref int count)
    {
        TileStage* stage = tiles.List, end = stage + count;
        count = 0;
        while (stage < end)
        {
            // Behind the last one another's scores are begun.
            end->Query = stage->Query;
            end->Keys = stage->Keys;
            tiles.Stages->Stages = stage;
            tiles.Stages->End = end;
            kernels.Stages(tiles.Stages);
            for (; stage < tiles.Stages->Reached; stage++) TileSoftmax.Add(stage->Sums, at.Sum + stage->Strip);
            if (stage == end) break;
            int strip = (int)stage->Strip, first = (int)stage->First;
            RunLanes(problem, sequence, item, units, at, tiles, kernels, tile, hasLargeKeys: false, strip, first, first + TileStages.Keys);
            stage++;
            for (TileStage* later = stage; later < end && later->Strip == strip; later++) TileSoftmax.Negate(at.Max + strip, units.Factor, later->Offsets);
        }
    }

    /// <summary>The same where scores or masks have more to them: all steps row by row.</summary>
    [SkipLocalsInit]
    private static void RunRows(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in PrefillLayout at, in TileLayout tiles, TileKernels kernels, in KeyTile tile, bool hasLargeKeys,
        int strip, int start, int stop)
    {
        int stripEnd = strip + TileKernels.Rows;
        if (problem.Bias != null || problem.Mask != null) PrefetchScoreTensors(problem, sequence, item, at, tile.First, &start, &stop, strip, stripEnd);
        int first = start / 32 * 32, end = (stop + 31) / 32 * 32;
        MultiplyKeys(problem, at, tiles, kernels, strip, first, end);
        TransposeScores(at, tiles, first, end);
        if (hasLargeKeys) MarkLargeScores(problem, sequence, item, at, tile, &start, &stop, strip, stripEnd);
        float* rescale = stackalloc float[TileKernels.Rows];
        bool rescales = false;
        Unsafe.SkipInit(out FunctionPlace functions);
        for (int r = 0; r < TileKernels.Rows; r++)
        {
            int row = strip + r;
            float* scores = at.Scores + ((nint)r * TileKeys);
            rescale[r] = 1;
            if (row >= item.RowCount)
            {
                new Span<float>(scores + first, end - first).Clear();
                continue;
            }

            float before = at.Max[row];
            ScoreRowContext context = ScoreRowContext.Of(problem, sequence, at.RowQuery[row], at.RowHead[row], tile.First, &functions);
            ScoreRow<TS, TV>.Update(
                scores, first / TS.Width, end / TS.Width, (int)Math.Max(at.RowStart[row] - tile.First, start), (int)Math.Min(at.RowEnd[row] - tile.First, stop),
                ref at.Max[row], ref tiles.Exact[row], null, 0, units, context, at.Temporary);
            if (at.Max[row] > before)
            {
                rescale[r] = float.IsNegativeInfinity(before) ? 0 : Elementary<TS, TV>.Exp2((before - at.Max[row]) * units.Factor);
                rescales = true;
            }

            at.Sum[row] = (at.Sum[row] * rescale[r]) + TilePacking.RoundWeights(scores, first / TS.Width, end / TS.Width) + (float.IsNaN(tiles.Exact[row]) ? float.NaN : 0);
        }

        float* output = at.Output + ((nint)strip * at.OutputStride);
        if (rescales) TileSoftmax.Multiply(output, at.OutputStride, rescale);
        for (int j = first; j < end; j += 32)
        {
            for (int half = 0; half < TileKernels.Rows; half += 16)
            {
                TileTransposition.Run((uint*)(at.Scores + (half * TileKeys)) + (j / 2), TileKeys, tiles.Weights + ((j - first) / 2 * TileKernels.Rows) + half, TileKernels.Rows);
            }
        }

        MultiplyValues(at, tiles, kernels, strip, first, end);
    }

    /// <summary>The strip's scores of keys [first, end), which are whole blocks of 32.</summary>
    private static void MultiplyKeys(AttentionProblem problem, in PrefillLayout at, in TileLayout tiles, TileKernels kernels, int strip, int first, int end)
    {
        int rowBytes = TilePacking.KeyBlocks(problem.KeyDim) * 64;
        var block = new TileScoresBlock
        {
            Configuration = TileConfiguration.Whole,
            Query = (byte*)at.Query + ((nint)strip * rowBytes),
            Keys = (byte*)at.Key + ((nint)first * rowBytes),
            Scores = tiles.Scores,
            KeyBlocks = (end - first) / 32,
        };
        kernels.Scores(&block);
    }

    /// <summary>Adds the values of keys [first, end) to the strip's outputs, by their weights.</summary>
    private static void MultiplyValues(in PrefillLayout at, in TileLayout tiles, TileKernels kernels, int strip, int first, int end)
    {
        var block = new TileSumsBlock
        {
            Configuration = TileConfiguration.Whole,
            Weights = (byte*)tiles.Weights,
            Values = (byte*)at.Value + ((nint)(first / 32) * TileScores.TileBytes),
            Output = at.Output + ((nint)strip * at.OutputStride),
            KeyBlocks = (end - first) / 32,
        };
        kernels.Sums(&block);
    }

    /// <summary>Scores of keys [first, end) to rows, each score at its key's place in the tile.</summary>
    private static void TransposeScores(in PrefillLayout at, in TileLayout tiles, int first, int end)
    {
        for (int j = first; j < end; j += 16)
        {
            for (int half = 0; half < TileKernels.Rows; half += 16)
            {
                TileTransposition.Run((uint*)tiles.Scores + ((j - first) * TileKernels.Rows) + half, TileKernels.Rows, (uint*)(at.Scores + (half * TileKeys)) + j, TileKeys);
            }
        }
    }

    /// <summary>The outputs of all strips to rows.</summary>
    private static void TransposeOutputs(in PrefillLayout at, in TileLayout tiles)
    {
        nint floats = (nint)TileKernels.Rows * at.OutputStride;
        for (int strip = 0; strip < at.PaddedRows; strip += TileKernels.Rows)
        {
            uint* output = (uint*)(at.Output + ((nint)strip * at.OutputStride));
            new ReadOnlySpan<uint>(output, (int)floats).CopyTo(new Span<uint>(tiles.Transposed, (int)floats));
            for (int d = 0; d < at.OutputStride; d += 16)
            {
                TileTransposition.Run(tiles.Transposed + (d * TileKernels.Rows), TileKernels.Rows, output + d, at.OutputStride);
                TileTransposition.Run(tiles.Transposed + (d * TileKernels.Rows) + 16, TileKernels.Rows, output + (16 * at.OutputStride) + d, at.OutputStride);
            }
        }
    }

    /// <summary>A column of a row that sees an infinite or NaN value becomes NaN, which has it computed again at the row's end.</summary>
    private static void MarkSpecialValues(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in PrefillLayout at, in KeyTile tile, byte* specials, int start, int stop, int strip)
    {
        float* output = at.Output + ((nint)strip * at.OutputStride);
        for (int r = 0; r < Math.Min(TileKernels.Rows, item.RowCount - strip); r++)
        {
            var visibility = new RowVisibility(problem, sequence, at.RowQuery[strip + r], at.RowHead[strip + r]);
            for (int j = start; j < stop; j++)
            {
                if (!Sees(at, visibility, strip + r, tile.First + j)) continue;
                for (int d = 0; d < problem.ValueDim; d++)
                {
                    if (TilePacking.IsSpecial(TilePacking.ValueAt(specials, j, d))) output[((nint)d * TileKernels.Rows) + r] = float.NaN;
                }
            }
        }
    }

    /// <summary>Where things of tile products lie, behind those that they share with the float kernel.</summary>
    private readonly struct TileLayout
    {
        /// <summary>A tile's scores: [keys][32 rows].</summary>
        public readonly float* Scores;

        /// <summary>Their weights, bfloat16: [pairs of keys][32 rows].</summary>
        public readonly uint* Weights;

        /// <summary>The outputs of a strip on their way to rows.</summary>
        public readonly uint* Transposed;

        /// <summary>For each row the sum of its weights as they are.</summary>
        public readonly float* Exact;

        /// <summary>The same of earlier blocks of keys.</summary>
        public readonly double* LongExact;

        /// <summary>The parameters of calls of many stages.</summary>
        public readonly TileStagesBlock* Stages;

        /// <summary>Their stages, and one behind them.</summary>
        public readonly TileStage* List;

        /// <summary>The weights of two stages.</summary>
        public readonly byte* StageWeights;

        public readonly long Bytes;

        public TileLayout(byte* scratch, in PrefillLayout at, in PrefillSizes sizes)
        {
            var memory = new ScratchMemory(scratch + at.Bytes);
            Scores = memory.Take<float>((long)TileKeys * TileKernels.Rows);
            Weights = memory.Take<uint>((long)TileKeys / 2 * TileKernels.Rows);
            Transposed = memory.Take<uint>((long)at.OutputStride * TileKernels.Rows);
            Exact = memory.Take<float>(at.PaddedRows);
            Stages = memory.Take<TileStagesBlock>(1);
            List = memory.Take<TileStage>((at.PaddedRows / TileKernels.Rows * (TileKeys / TileStages.Keys)) + 1);
            StageWeights = memory.Take<byte>(2 * TileStages.WeightBytes);
            if (sizes.IsLong) LongExact = memory.Take<double>(at.PaddedRows);
            Bytes = at.Bytes + memory.Used;
        }
    }
}
