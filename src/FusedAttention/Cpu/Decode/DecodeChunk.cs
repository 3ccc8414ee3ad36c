using System.Runtime.CompilerServices;
using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>One chunk of keys of the decode kernel, tile by tile: leaves, row after row, m, l and O in scratch memory.</summary>
/// <typeparam name="TS">The instruction set.</typeparam>
/// <typeparam name="TV">Its vector.</typeparam>
/// <typeparam name="TE">The element type of keys and values.</typeparam>
/// <typeparam name="TCheap">A cheaper way to load the same elements that is right unless one of them is infinite or NaN, or <typeparamref name="TE"/> again.</typeparam>
/// <typeparam name="TProducts">What multiplies.</typeparam>
internal static unsafe class DecodeChunk<TS, TV, TE, TCheap, TProducts>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TE : struct, IElement
    where TCheap : struct, IElement
    where TProducts : struct, IDecodeProducts
{
    private const int TileKeys = DecodeTiles.Keys;

    public static void Run(AttentionProblem problem, in WorkItem item, in ScoreUnits units, in DecodeLayout at, in DecodeCode code)
    {
        bool queryIsScaled = WidenQueries(problem, item, at);
        TProducts.Prepare(problem, item, at);
        Sum(problem, item, units, at, code, queryIsScaled, onlySeen: false);

        // An infinite or NaN value at a key that some row does not see has come through as 0 times it: once more, with weights of seen keys only.
        nint rows = (nint)item.HeadCount * at.RowsPerHead;
        if (TE.HasSpecials && FloatChecks<TS, TV>.AnyNotFinite(at.Output, rows * at.OutputStride)) Sum(problem, item, units, at, code, queryIsScaled, onlySeen: true);
    }

    /// <summary>Widens the queries, and scales them for the cheap form of binary16 unless one of them is large, infinite or NaN. Says whether they are scaled.</summary>
    private static bool WidenQueries(AttentionProblem problem, in WorkItem item, in DecodeLayout at)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        nint floats = (nint)item.HeadCount * at.RowsPerHead * at.QueryStride;
        new Span<float>(at.Query, (int)floats).Clear();
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                (int query, int head) = problem.RowAt(item.Head + h, r);
                nint row = (h * at.RowsPerHead) + r;
                RowConversion<TS, TV>.Widen(problem.QueryType, problem.QueryOf(sequence, query, head), at.Query + (row * at.QueryStride), problem.KeyDim);
            }
        }

        if (typeof(TCheap) != typeof(UnrebasedFloat16Element) || FloatChecks<TS, TV>.AnyAbove(Unrebased<TS, TV>.LargestQuery, at.Query, floats)) return false;
        Unrebased<TS, TV>.Multiply(at.Query, floats, Unrebased<TS, TV>.SumFactor);
        return true;
    }

    private static void Sum(AttentionProblem problem, in WorkItem item, in ScoreUnits units, in DecodeLayout at, in DecodeCode code, bool queryIsScaled, bool onlySeen)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        Clear(problem, item, at, queryIsScaled);
        KeyRange range = problem.RangeOf(sequence, 0, sequence.QueryLength - 1).Intersect(item.KeyStart, item.KeyEnd);
        if (range.IsEmpty) return;
        long tile = Next(problem, sequence, item, range, range.Start / TileKeys * TileKeys, at.Rows(0), out int stop);
        for (int parity = 0; stop > 0; parity ^= 1)
        {
            TileRows next = at.Rows(parity ^ 1);
            long nextTile = Next(problem, sequence, item, range, tile + TileKeys, next, out int nextStop);
            int start = (int)Math.Max(range.Start - tile, 0);
            var pass = new DecodePass(problem, item, at, code, queryIsScaled, at.Rows(parity), start, stop, next, nextStop);
            RunTile(problem, sequence, item, units, at, pass, tile, onlySeen);
            (tile, stop) = (nextTile, nextStop);
        }
    }

    /// <summary>Clears the state. Rows with a query that leaves <see cref="FloatRange"/> are marked by a sum of NaN, which has them computed again at their end.</summary>
    private static void Clear(AttentionProblem problem, in WorkItem item, in DecodeLayout at, bool queryIsScaled)
    {
        int rows = item.HeadCount * at.RowsPerHead;
        new Span<float>(at.Output, rows * at.OutputStride).Clear();
        new Span<float>(at.Max, rows).Fill(float.NegativeInfinity);
        new Span<float>(at.Sum, rows).Clear();
        if (queryIsScaled || !FloatChecks<TS, TV>.AnyAbove(FloatRange.LargestKey, at.Query, (nint)rows * at.QueryStride)) return;
        for (int row = 0; row < rows; row++)
        {
            float largest = 0;
            for (int d = 0; d < problem.KeyDim; d++) largest = Math.Max(largest, Math.Abs(at.Query[((nint)row * at.QueryStride) + d]));     // NaN stays
            if (!(largest <= problem.LargestQuery)) at.Sum[row] = float.NaN;
        }
    }

    /// <summary>
    /// The first tile from <paramref name="tile"/> on in which a row of the item sees a key, with the addresses of its keys. Masks and biases are looked at before keys and values: a tile that they exclude
    /// as a whole is passed over. Never a part of one, or the bits would depend on which heads share an item.
    /// </summary>
    /// <param name="problem">The call.</param>
    /// <param name="sequence">The sequence.</param>
    /// <param name="item">The chunk.</param>
    /// <param name="range">Its keys.</param>
    /// <param name="tile">Where to begin.</param>
    /// <param name="rows">Receives the addresses.</param>
    /// <param name="stop">One past the tile's last key, relative to the tile; 0 if there is none.</param>
    private static long Next(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, KeyRange range, long tile, in TileRows rows, out int stop)
    {
        for (; tile < range.End; tile += TileKeys)
        {
            KeyRange inTile = range.Intersect(tile, tile + TileKeys);
            if (IsHidden(problem, sequence, item, inTile)) continue;
            int start = (int)(inTile.Start - tile);
            stop = (int)(inTile.End - tile);
            KeyRows.Locate(problem, sequence, inTile.Start, inTile.End, rows.Keys + start, rows.Values + start);
            for (int i = 0; i < TileRows.Padding; i++)
            {
                rows.Keys[stop + i] = rows.Keys[stop - 1];
                rows.Values[stop + i] = rows.Values[stop - 1];
            }

            return tile;
        }

        stop = 0;
        return tile;
    }

    private static bool IsHidden(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, KeyRange keys)
    {
        if (!problem.HasVisibility) return false;
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                (int query, int head) = problem.RowAt(item.Head + h, r);
                KeyRange own = problem.RangeOf(sequence, query).Intersect(keys.Start, keys.End);
                if (new RowVisibility(problem, sequence, query, head).First(own.Start, own.End) < own.End) return false;
            }
        }

        return true;
    }

    // Never a part of its callers, which would use up what the compiler inlines into one method: the exponentials of a row were a call then, 2 % of a decode with a mask.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void RunTile(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in DecodeLayout at, in DecodePass pass, long tile, bool onlySeen)
    {
        TProducts.Scores(pass);
        int firstVector = pass.Start / (2 * TS.Width) * 2;
        int endVector = (pass.Stop + (2 * TS.Width) - 1) / (2 * TS.Width) * 2;
        bool mayBeLarge = TE.Largest > FloatRange.LargestKey;
        if (TE.TakesScales) mayBeLarge = ScaleScores(problem, sequence, item, at, pass, tile, firstVector, endVector);
        bool hasLarge = mayBeLarge && AnyLarge(item, at, firstVector, endVector);
        if (TE.TakesScales) GatherValueScales(problem, sequence, item, at, pass, tile);
        if (onlySeen)
        {
            AddSeenValues(problem, sequence, item, units, at, pass, tile, hasLarge, firstVector, endVector);
            return;
        }

        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++) Softmax(problem, sequence, item, units, at, pass, tile, hasLarge, firstVector, endVector, h, r, null);
        }

        if (TE.TakesScales && !problem.ValueScale.IsAbsent)
        {
            for (int h = 0; h < item.HeadCount; h++) ScaleWeights(at, h, 0, item.RowCount, firstVector, endVector);
        }

        TProducts.Outputs(pass);
    }

    /// <summary>One row of a head from scores to weights. Tells what its score function excludes, if <paramref name="excluded"/> is not null.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Softmax(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in DecodeLayout at, in DecodePass pass, long tile, bool hasLarge, int firstVector, int endVector,
        int h, int r, bool* excluded)
    {
        int row = (h * at.RowsPerHead) + r;
        (int query, int head) = problem.RowAt(item.Head + h, r);
        KeyRange range = problem.RangeOf(sequence, query).Intersect(tile + pass.Start, tile + pass.Stop);
        float* scores = at.Scores + ((nint)row * DecodeTiles.ScoreStride);
        if (hasLarge && AnyLargeSeen(problem, sequence, query, head, range, scores, tile)) at.Sum[row] = float.NaN;
        Unsafe.SkipInit(out FunctionPlace functions);
        ScoreRowContext context = units.IsPlain ? default : ScoreRowContext.Of(problem, sequence, query, head, tile, &functions, excluded);
        ScoreRow<TS, TV>.Update(
            scores, firstVector, endVector, (int)(range.Start - tile), (int)(range.End - tile),
            ref at.Max[row], ref at.Sum[row], at.Output + ((nint)row * at.OutputStride), at.OutputStride, units, context, at.Temporary);
    }

    /// <summary>Multiplies scores by the scales of their keys. Says whether one of these, hidden ones included, leaves <see cref="FloatRange"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static bool ScaleScores(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in DecodeLayout at, in DecodePass pass, long tile, int firstVector, int endVector)
    {
        if (problem.KeyScale.IsAbsent) return false;
        bool large = ScaleRows<TS, TV>.Gather(
            problem, sequence, problem.KeyScale, sequence.KeyScaleStart, item.Head, item.HeadCount, (int)(tile + pass.Start), (int)(tile + pass.Stop), FloatRange.LargestKeyScale, at.KeyScales + pass.Start, TileKeys);
        for (int h = 0; h < item.HeadCount; h++)
        {
            ScaleRows<TS, TV>.ScaleScores(
                at.Scores + ((nint)h * at.RowsPerHead * DecodeTiles.ScoreStride), DecodeTiles.ScoreStride, item.RowCount, at.KeyScales + ((nint)h * TileKeys), firstVector, endVector);
        }

        return large;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void GatherValueScales(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in DecodeLayout at, in DecodePass pass, long tile)
    {
        if (problem.ValueScale.IsAbsent) return;
        ScaleRows<TS, TV>.Gather(
            problem, sequence, problem.ValueScale, sequence.ValueScaleStart, item.Head, item.HeadCount, (int)(tile + pass.Start), (int)(tile + pass.Stop), float.PositiveInfinity, at.ValueScales + pass.Start, TileKeys);
    }

    /// <summary>Multiplies weights of rows of a head by the scales of their values.</summary>
    private static void ScaleWeights(in DecodeLayout at, int head, int row, int rows, int firstVector, int endVector) => ScaleRows<TS, TV>.ScaleWeights(
        at.Scores + ((((nint)head * at.RowsPerHead) + row) * DecodeTiles.ScoreStride), DecodeTiles.ScoreStride, rows, at.ValueScales + ((nint)head * TileKeys), firstVector, endVector);

    /// <summary>
    /// Whether a dot product of the tile may leave <see cref="FloatRange"/>, hidden ones and what memory held before included: a sum of squares over all rows, one multiply-add a vector, that says yes from
    /// 2^40 on, long before it must. Row by row it was 2 to 3 % of a call of grouped heads.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool AnyLarge(in WorkItem item, in DecodeLayout at, int firstVector, int endVector)
    {
        // Four chains, so whole groups of four vectors: a tile has a multiple of them.
        TV squares0 = TS.Zero, squares1 = TS.Zero, squares2 = TS.Zero, squares3 = TS.Zero;
        int first = firstVector / 4 * 4 * TS.Width;
        int end = endVector * TS.Width;
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                float* scores = at.Scores + ((nint)((h * at.RowsPerHead) + r) * DecodeTiles.ScoreStride);
                for (int j = first; j < end; j += 4 * TS.Width)
                {
                    TV s0 = TS.Load(scores + j), s1 = TS.Load(scores + j + TS.Width), s2 = TS.Load(scores + j + (2 * TS.Width)), s3 = TS.Load(scores + j + (3 * TS.Width));
                    squares0 = TS.MultiplyAdd(s0, s0, squares0);
                    squares1 = TS.MultiplyAdd(s1, s1, squares1);
                    squares2 = TS.MultiplyAdd(s2, s2, squares2);
                    squares3 = TS.MultiplyAdd(s3, s3, squares3);
                }
            }
        }

        return !(TS.Sum(TS.Add(TS.Add(squares0, squares1), TS.Add(squares2, squares3))) <= FloatRange.LargestKey * FloatRange.LargestKey);
    }

    private static bool AnyLargeSeen(AttentionProblem problem, in SequenceProblem sequence, int query, int head, KeyRange range, float* scores, long tile)
    {
        var visibility = RowVisibility.OfProducts(problem, sequence, query, head);
        for (long key = range.Start; key < range.End; key++)
        {
            if (Math.Abs(scores[key - tile]) <= problem.LargestProduct || !visibility.Sees(key)) continue;
            if (!RowVisibility.IsExcludedByScore(problem, sequence, query, head, key)) return true;
        }

        return false;
    }

    /// <summary>
    /// Softmax and O += P V, row by row and only over keys that the row sees. The same chains of multiply-adds as <see cref="DecodeProducts{TS, TV, TE, TCheap}.Outputs"/>, less those that would add 0, so the bits are those
    /// that zeros at hidden keys would give.
    /// </summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void AddSeenValues(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreUnits units, in DecodeLayout at, in DecodePass pass, long tile, bool hasLarge, int firstVector, int endVector)
    {
        int dim = problem.ValueDim;
        bool* excluded = stackalloc bool[DecodeTiles.Keys];
        for (int h = 0; h < item.HeadCount; h++)
        {
            nint offset = (nint)((item.Head + h) * problem.ValueHeadStride * TE.Size);
            for (int r = 0; r < item.RowCount; r++)
            {
                new Span<bool>(excluded, DecodeTiles.Keys).Clear();
                Softmax(problem, sequence, item, units, at, pass, tile, hasLarge, firstVector, endVector, h, r, excluded);
                if (TE.TakesScales && !problem.ValueScale.IsAbsent) ScaleWeights(at, h, r, 1, firstVector, endVector);
                nint row = (h * at.RowsPerHead) + r;
                (int query, int head) = problem.RowAt(item.Head + h, r);
                KeyRange range = problem.RangeOf(sequence, query);
                var visibility = new RowVisibility(problem, sequence, query, head);
                float* weights = at.Scores + (row * DecodeTiles.ScoreStride);
                float* output = at.Output + (row * at.OutputStride);
                for (int j = pass.Start; j < pass.Stop; j += pass.ValueStep)
                {
                    int end = Math.Min(j + pass.ValueStep, pass.Stop);
                    for (int d = 0; d < dim; d += TS.Width)
                    {
                        TV sum = TS.Zero;
                        for (int i = j; i < end; i++)
                        {
                            if (weights[i] == 0 && (excluded[i] || !(tile + i >= range.Start && tile + i < range.End && visibility.Sees(tile + i)))) continue;
                            byte* value = (byte*)(pass.Rows.Values[i] + offset);
                            if (d + TS.Width <= dim)
                            {
                                sum = TS.MultiplyAdd(TS.Create(weights[i]), TE.Load<TS, TV>(value, d), sum);
                                continue;
                            }

                            for (int e = d; e < dim; e++) at.Temporary[e - d] = TE.LoadOne(value, e);
                            for (int e = dim; e < d + TS.Width; e++) at.Temporary[e - d] = 0;
                            sum = TS.MultiplyAdd(TS.Create(weights[i]), TS.Load(at.Temporary), sum);
                        }

                        TS.Store(output + d, TS.Add(TS.Load(output + d), sum));
                    }
                }
            }
        }
    }
}
