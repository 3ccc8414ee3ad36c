using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Rows;

/// <summary>What the score passes need to know of one row and one tile of keys.</summary>
internal unsafe struct ScoreRowContext
{
    /// <summary>Position of the query minus the first key of the tile.</summary>
    public float RelativePosition;

    /// <summary>ALiBi slope of the head.</summary>
    public float Slope;

    /// <summary>Whether distances to the tile's keys are beyond the integers that floats hold.</summary>
    public bool IsFar;

    /// <summary>Where the bias of the tile's first key is or would be, or null. Only keys in range are read.</summary>
    public byte* Bias;

    public AttentionElementType BiasType;

    /// <summary>Mask of the tile's first key, or null. Only keys in range are read.</summary>
    public byte* Mask;

    /// <summary>How the call's functions are asked about the row and the tile; null where it has none.</summary>
    public FunctionPlace* Functions;

    /// <summary>The context of one row for the tile of keys that starts at <paramref name="tile"/>.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="sequence">The row's sequence.</param>
    /// <param name="query">Its query.</param>
    /// <param name="head">Its query head.</param>
    /// <param name="tile">The tile's first key.</param>
    /// <param name="functions">Room for what functions are asked with. Without functions it stays as it is: filled and cleared for every row, it was 1 % of a prefill of 512 keys under a mask (D = 64).</param>
    /// <param name="excluded">Receives, for the tile's keys in range, whether the score function excludes them; null where nobody asks.</param>
    public static ScoreRowContext Of(
        AttentionProblem problem, in SequenceProblem sequence, int query, int head, long tile, FunctionPlace* functions, bool* excluded = null)
    {
        long position = sequence.QueryOffset + query - tile;
        var context = new ScoreRowContext { RelativePosition = position, BiasType = problem.BiasType };
        if (!problem.AlibiSlopes.IsEmpty)
        {
            context.Slope = problem.AlibiSlopes.Span[head];
            context.IsFar = context.Slope != 0 && Math.Abs(position) > FloatRange.LargestDistance - MostKeys;
        }

        context.Bias = problem.BiasOf(sequence, query, head);
        if (context.Bias != null) context.Bias += tile * problem.BiasType.Size();
        context.Mask = problem.MaskOf(sequence, query, head);
        if (context.Mask != null) context.Mask += tile;
        if (problem.BoundScore is null && problem.BoundMask is null) return context;
        *functions = new FunctionPlace(AttentionProblem.FunctionRowOf(sequence, query, head), tile, excluded);
        context.Functions = functions;
        return context;
    }

    // No tile is longer.
    private const int MostKeys = 1024;
}

/// <summary>A row and a tile of keys as the call's functions are asked about them.</summary>
/// <param name="row">The row.</param>
/// <param name="tile">The tile's first key.</param>
/// <param name="excluded">Receives, for the tile's keys in range, whether the score function excludes them; null where nobody asks.</param>
internal readonly unsafe struct FunctionPlace(FunctionRow row, long tile, bool* excluded)
{
    public readonly FunctionRow Row = row;
    public readonly long Tile = tile;
    public readonly bool* Excluded = excluded;
}

/// <summary>
/// One row of scores on its way from dot products to weights: a few passes over at most a tile of keys that sits in the first-level cache. Each feature is a pass of its
/// own, run only where the call has it: a pass over a vector is a load, a few operations and a store, where the products of D = 128 take 256 multiply-adds.
/// </summary>
internal static unsafe class ScoreRow<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    /// <summary>
    /// Takes one row of scores of one tile through the online softmax: scores become weights, the running maximum and sum are brought up to date, and the output row is
    /// rescaled if the maximum grew. Whether it grows is decided for this row alone, so a row's bits do not depend on its neighbours.
    /// </summary>
    /// <param name="s">Scores of the tile: at <c>s[j]</c> the one of the tile's key j.</param>
    /// <param name="first">First vector to process, even: all keys in range lie in vectors [first, end).</param>
    /// <param name="end">End of the vectors to process, even.</param>
    /// <param name="start">First key in range, relative to the tile.</param>
    /// <param name="stop">End of the keys in range; at or below <paramref name="start"/> for none.</param>
    /// <param name="max">Running maximum m of the stored scores; negative infinity before the first allowed key.</param>
    /// <param name="sum">Running sum l of the weights relative to m.</param>
    /// <param name="output">The row of O.</param>
    /// <param name="outputLength">Its length, a multiple of the vector width.</param>
    /// <param name="units">How scores become exponents.</param>
    /// <param name="row">What else the row needs.</param>
    /// <param name="temporary">Room for a tile of floats.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Update(
        float* s, int first, int end, int start, int stop, ref float max, ref float sum, float* output, int outputLength,
        in ScoreUnits units, in ScoreRowContext row, float* temporary)
    {
        if (start >= stop)
        {
            Clear(s, first, end);
            return;
        }

        if (!units.IsPlain)
        {
            Modify(s, first, end, start, stop, units, row, temporary);
            if (row.IsFar && AnySeen(s, start, stop)) sum = float.NaN;
        }

        Advance(s, first, end, start, stop, ref max, ref sum, output, outputLength, units.Factor);
    }

    /// <summary>
    /// <see cref="Update"/> for consecutive rows of one tile whose scores need no modification, in one loop without calls: at D = 64 the softmax took 17 % of a prefill with one call a row, and takes 14 % so (AVX-512).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void UpdateRows(
        float* s, int stride, int rows, int first, int end, long tile, int* starts, int* stops, float* max, float* sum, float* output, int outputLength, float factor)
    {
        for (int r = 0; r < rows; r++)
        {
            int start = (int)Math.Max(starts[r] - tile, 0);
            int stop = (int)Math.Min(stops[r] - tile, stride);
            if (start >= stop) Clear(s, first, end);
            else Advance(s, first, end, start, stop, ref max[r], ref sum[r], output, outputLength, factor);
            s += stride;
            output += outputLength;
        }
    }

    // On its own: inlined, its passes used up what the compiler inlines into one method, and the softmax of calls without any became three calls a row, 1 % of a decode.
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Modify(float* s, int first, int end, int start, int stop, in ScoreUnits units, in ScoreRowContext row, float* temporary)
    {
        var passes = new ScorePasses<TS, TV>(s, first, end, start, stop, units, row, temporary);
        ScoreLaw.Apply(ref passes, units.Steps);
        passes.Finish();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Advance(float* s, int first, int end, int start, int stop, ref float max, ref float sum, float* output, int outputLength, float factor)
    {
        ExcludeOutside(s, first, end, start, stop);
        float tileMax = Maximum(s, first, end);
        float newMax = max > tileMax ? max : tileMax;
        if (float.IsNegativeInfinity(newMax))
        {
            // Nothing allowed so far; or nothing but NaN, which the maximum may have dropped and the result must show.
            if (AnyNaN(s, start, stop)) sum = float.NaN;
            Clear(s, first, end);
            return;
        }

        if (newMax > max)
        {
            if (!float.IsNegativeInfinity(max))
            {
                float rescale = Elementary<TS, TV>.Exp2((max - newMax) * factor);
                sum *= rescale;
                Multiply(output, outputLength, rescale);
            }

            max = newMax;
        }

        sum += Exponentiate(s, first, end, newMax, factor);
    }

    /// <summary>Sets the scores of keys outside [start, stop) to negative infinity, within vectors [first, end).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ExcludeOutside(float* s, int first, int end, int start, int stop)
    {
        for (int j = first * TS.Width; j < start; j++) s[j] = float.NegativeInfinity;
        for (int j = stop; j < end * TS.Width; j++) s[j] = float.NegativeInfinity;
    }

    /// <summary>The largest score of vectors [first, end).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Maximum(float* s, int first, int end)
    {
        TV max0 = TS.Create(float.NegativeInfinity);
        TV max1 = max0;
        for (int v = first; v < end; v += 2)
        {
            max0 = TS.Max(max0, TS.Load(s + (v * TS.Width)));
            max1 = TS.Max(max1, TS.Load(s + (v * TS.Width) + TS.Width));
        }

        return TS.MaxAcross(TS.Max(max0, max1));
    }

    /// <summary>
    /// Replaces scores by weights exp2((s - max) * factor) and returns their sum. Subtracting first costs one operation more than exp2(s * factor - max * factor) with a fused
    /// product, and buys three things: the largest weight is exactly 1, a bias may reach the most negative float without overflow (a row of nothing else is a plain
    /// average), and hardware without fused products keeps the accuracy. Two chains of sums that belong to even and odd vectors of the tile, so that it does not matter
    /// where a row's vectors begin.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Exponentiate(float* s, int first, int end, float max, float factor)
    {
        TV c = TS.Create(factor);
        TV m = TS.Create(max);
        TV sum0 = TS.Zero;
        TV sum1 = TS.Zero;
        for (int v = first; v < end; v += 2)
        {
            float* at = s + (v * TS.Width);
            TV p0 = Elementary<TS, TV>.Exp2(TS.Multiply(TS.Subtract(TS.Load(at), m), c));
            TV p1 = Elementary<TS, TV>.Exp2(TS.Multiply(TS.Subtract(TS.Load(at + TS.Width), m), c));
            TS.Store(at, p0);
            TS.Store(at + TS.Width, p1);
            sum0 = TS.Add(sum0, p0);
            sum1 = TS.Add(sum1, p1);
        }

        return TS.Sum(TS.Add(sum0, sum1));
    }

    /// <summary>Whether a score of keys [start, stop) is NaN: the maximum may have lost it.</summary>
    private static bool AnyNaN(float* s, int start, int stop)
    {
        for (int j = start; j < stop; j++)
        {
            if (float.IsNaN(s[j])) return true;
        }

        return false;
    }

    /// <summary>Whether a key of [start, stop) is not excluded.</summary>
    private static bool AnySeen(float* s, int start, int stop) => new ReadOnlySpan<float>(s + start, stop - start).ContainsAnyExcept(float.NegativeInfinity);

    private static void Clear(float* s, int first, int end) => new Span<float>(s + (first * TS.Width), (end - first) * TS.Width).Clear();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply(float* row, int length, float factor)
    {
        TV f = TS.Create(factor);
        for (int i = 0; i < length; i += TS.Width) TS.Store(row + i, TS.Multiply(TS.Load(row + i), f));
    }
}
