using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// The two products of a decode tile, S = Q K^T and O += P V: a few tokens at a time, and for them all heads. <typeparamref name="TCheap"/> is a cheaper way to load the same
/// elements that is right unless one of them is infinite or NaN (binary16 and <see cref="Float8E4M3"/> have one), or <typeparamref name="TE"/> again.
/// </summary>
internal readonly unsafe struct DecodeProducts<TS, TV, TE, TCheap> : IDecodeProducts
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TE : struct, IElement
    where TCheap : struct, IElement
{
    private const int TileKeys = DecodeTiles.Keys;
    private const int Stride = DecodeTiles.ScoreStride;
    private const int CacheLine = 64;

    /// <summary>Keys that a product of four rows takes.</summary>
    private static int KeysOfProduct
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => TS.HasManyRegisters ? 4 : 2;
    }

    /// <summary>Whether the fast forms take a dimension: whole vectors, and chains of at most 128 of them.</summary>
    private static bool IsPlain(int dim) => dim <= PrefillTiles.DimBlock * TS.Width && dim % TS.Width == 0;

    private static bool HasCheap => typeof(TE) != typeof(TCheap);

    /// <summary>Whether elements are in blocks, which are widened for all rows of a head before they are multiplied.</summary>
    private static bool AreBlocks => typeof(TE) == typeof(Q8BlockElement);

    /// <summary>Whether the cheap form leaves out a factor, which queries and weights carry.</summary>
    private static bool IsUnrebased => typeof(TCheap) == typeof(UnrebasedFloat16Element);

    private static float CheapSumFactor => IsUnrebased ? Unrebased<TS, TV>.SumFactor : 1;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Scores(in DecodePass pass)
    {
        AttentionProblem problem = pass.Problem;
        if (!AreBlocks && pass.IsByToken && IsPlain(problem.KeyDim))
        {
            ScoresByToken(pass);
            return;
        }

        nint headStride = (nint)(problem.KeyHeadStride * TE.Size);
        int step = DecodeTiles.KeyStep(pass.At.RowsPerHead, problem.KeyValueHeads * (long)TE.Bytes(problem.KeyDim), KeysOfProduct);
        nint* widened = stackalloc nint[DecodeTiles.MaxStep];
        for (int j = pass.Start; j < pass.Stop; j += step)
        {
            int count = Math.Min(step, pass.Stop - j);
            nint* keys = pass.Rows.Keys + j;
            TokensAhead ahead = pass.AfterKeys(j);
            nint offset = pass.Item.Head * headStride;
            bool cheap = HasCheap && (pass.QueryIsScaled || !IsUnrebased) && !AnySpecial(keys, pass.Item.Head, pass.Item.HeadCount, problem.KeyHeadStride, problem.KeyDim, count);
            for (int h = 0; h < pass.Item.HeadCount; h++, offset += headStride)
            {
                if (AreBlocks) Scores<Float32Element>(pass, h, j, count, Widen(pass.At, keys, offset, count, problem.KeyDim, widened), 0, ahead, 1);
                else if (!HasCheap) Scores<TE>(pass, h, j, count, keys, offset, ahead, 1);
                else if (cheap) Scores<TCheap>(pass, h, j, count, keys, offset, ahead, CheapSumFactor);
                else Scores<TE>(pass, h, j, count, keys, offset, ahead, pass.QueryIsScaled ? Unrebased<TS, TV>.PlainSumFactor : 1);
            }
        }
    }

    /// <summary>One row a head: token by token, so that memory is read in its order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    private static void ScoresByToken(in DecodePass pass)
    {
        const int Heads = DotProducts<TS, TV, TE>.MaxHeads;
        AttentionProblem problem = pass.Problem;
        ref readonly DecodeLayout at = ref pass.At;
        int dim = problem.KeyDim;
        nint headStride = (nint)(problem.KeyHeadStride * TE.Size);
        float* sums = stackalloc float[Heads];
        for (int j = pass.Start; j < pass.Stop; j++)
        {
            nint* key = pass.Rows.Keys + j;
            TokensAhead ahead = pass.AfterKeys(j);
            for (int h = 0; h < pass.Item.HeadCount; h += Heads)
            {
                int count = Math.Min(Heads, pass.Item.HeadCount - h);
                int head = pass.Item.Head + h;
                for (int i = 0; i < count; i++) Prefetch(ahead, head + i, 0, 1);
                float* query = at.Query + ((nint)h * at.QueryStride);
                byte* first = (byte*)(*key + (head * headStride));
                if (!HasCheap) DotProducts<TS, TV, TE>.Heads(query, at.QueryStride, first, headStride, count, dim, sums, 1);
                else if ((pass.QueryIsScaled || !IsUnrebased) && !AnySpecial(key, head, count, problem.KeyHeadStride, dim, 1)) DotProducts<TS, TV, TCheap>.Heads(query, at.QueryStride, first, headStride, count, dim, sums, CheapSumFactor);
                else DotProducts<TS, TV, TE>.Heads(query, at.QueryStride, first, headStride, count, dim, sums, pass.QueryIsScaled ? Unrebased<TS, TV>.PlainSumFactor : 1);
                for (int i = 0; i < count; i++) at.Scores[((nint)(h + i) * Stride) + j] = sums[i];
            }
        }
    }

    /// <summary>Whether an element of some heads of some tokens is infinite or NaN.</summary>
    private static bool AnySpecial(nint* rows, int head, int heads, long headStride, int dim, int count)
    {
        if (headStride == dim) return AnySpecial(rows, (nint)(head * headStride * TE.Size), count, heads * dim);
        for (int h = head; h < head + heads; h++)
        {
            if (AnySpecial(rows, (nint)(h * headStride * TE.Size), count, dim)) return true;
        }

        return false;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool AnySpecial(nint* rows, nint offset, int count, int dim)
        => typeof(TE) == typeof(Float8E4M3Element) ? Float8Bits.AnyNaN(rows, offset, count, dim) : TS.AnySpecialHalf(rows, offset, count, dim);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Outputs(in DecodePass pass)
    {
        AttentionProblem problem = pass.Problem;
        ref readonly DecodeLayout at = ref pass.At;
        nint headStride = (nint)(problem.ValueHeadStride * TE.Size);
        int rows = at.RowsPerHead;
        if (IsUnrebased) Unrebased<TS, TV>.Multiply(at.Scores, (nint)pass.Item.HeadCount * rows * Stride, Unrebased<TS, TV>.WeightFactor);
        bool isInOrder = rows == 1 && problem.ValueHeadStride <= problem.ValueTokenStride;
        nint* widened = stackalloc nint[DecodeTiles.MaxStep];
        for (int j = pass.Start; j < pass.Stop; j += pass.ValueStep)
        {
            int count = Math.Min(pass.ValueStep, pass.Stop - j);
            nint* values = pass.Rows.Values + j;
            TokensAhead ahead = pass.AfterValues(j);
            nint offset = pass.Item.Head * headStride;
            bool cheap = HasCheap && !AnySpecial(values, pass.Item.Head, pass.Item.HeadCount, problem.ValueHeadStride, problem.ValueDim, count);
            for (int h = 0; h < pass.Item.HeadCount; h++, offset += headStride)
            {
                if (isInOrder) PrefetchInOrder(ahead, pass.Item, h, count);
                else Prefetch(ahead, pass.Item.Head + h, 0, count);
                float* weights = at.Scores + ((nint)h * rows * Stride) + j;
                float* output = at.Output + ((nint)h * rows * at.OutputStride);
                if (AreBlocks)
                {
                    Outputs<Float32Element>(at, weights, Widen(at, values, offset, count, problem.ValueDim, widened), 0, count, output, problem.ValueDim);
                }
                else if (!HasCheap)
                {
                    Outputs<TE>(at, weights, values, offset, count, output, problem.ValueDim);
                }
                else if (cheap)
                {
                    Outputs<TCheap>(at, weights, values, offset, count, output, problem.ValueDim);
                }
                else
                {
                    for (int r = 0; IsUnrebased && r < rows; r++) MultiplyEach(weights + ((nint)r * Stride), count, 1 / Unrebased<TS, TV>.WeightFactor);
                    Outputs<TE>(at, weights, values, offset, count, output, problem.ValueDim);
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Scores<T>(in DecodePass pass, int head, int j, int count, nint* keys, nint offset, in TokensAhead ahead, float factor)
        where T : struct, IElement
    {
        ref readonly DecodeLayout at = ref pass.At;
        int dim = pass.Problem.KeyDim;
        float* query = at.Query + ((nint)head * at.RowsPerHead * at.QueryStride);
        float* scores = at.Scores + ((nint)head * at.RowsPerHead * Stride) + j;
        if (!IsPlain(dim))
        {
            Prefetch(ahead, pass.Item.Head + head, 0, count);
            for (int r = 0; r < at.RowsPerHead; r++) AnyDim<T>(query + ((nint)r * at.QueryStride), keys, offset, dim, scores + ((nint)r * Stride), factor);
            return;
        }

        if (at.RowsPerHead == 1)
        {
            Prefetch(ahead, pass.Item.Head + head, 0, count);
            DotProducts<TS, TV, T>.OneRow(query, keys, offset, dim, scores, factor);
            return;
        }

        for (int r = 0; r < at.RowsPerHead; r += DecodeTiles.Rows)
        {
            for (int i = 0; i < count; i += KeysOfProduct)
            {
                // As many tokens at a time as the product takes: a burst of requests for eight would hold up the loads behind it.
                if (r == 0) Prefetch(ahead, pass.Item.Head + head, i, Math.Min(KeysOfProduct, count - i));
                if (TS.HasManyRegisters) DotProducts<TS, TV, T>.FourRowsFourKeys(query, at.QueryStride, keys + i, offset, dim, scores + i, Stride, factor);
                else DotProducts<TS, TV, T>.FourRows(query, at.QueryStride, (byte*)(keys[i] + offset), (byte*)(keys[i + 1] + offset), dim, scores + i, Stride, factor);
            }

            query += DecodeTiles.Rows * (nint)at.QueryStride;
            scores += DecodeTiles.Rows * Stride;
        }
    }

    /// <summary>One row and eight keys of any dimension: sums of at most 128 vectors (a longer chain of additions loses accuracy), and the rest of the dimension.</summary>
    [SkipLocalsInit]
    private static void AnyDim<T>(float* query, nint* keys, nint offset, int dim, float* scores, float factor)
        where T : struct, IElement
    {
        int block = PrefillTiles.DimBlock * TS.Width;
        int whole = dim / TS.Width * TS.Width;
        float* sums = stackalloc float[8];
        DotProducts<TS, TV, T>.OneRow(query, keys, offset, Math.Min(block, whole), scores, 1);
        for (int d = block; d < whole; d += block)
        {
            DotProducts<TS, TV, T>.OneRow(query + d, keys, offset + T.Bytes(d), Math.Min(block, whole - d), sums, 1);
            for (int i = 0; i < 8; i++) scores[i] += sums[i];
        }

        for (int i = 0; i < 8; i++) scores[i] = (scores[i] + DotProducts<TS, TV, T>.Tail(query, (byte*)(keys[i] + offset), whole, dim)) * factor;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Outputs<T>(in DecodeLayout at, float* weights, nint* values, nint offset, int count, float* output, int dim)
        where T : struct, IElement
    {
        if (at.RowsPerHead == 1)
        {
            WeightedSums<TS, TV, T>.OneRow(weights, values, offset, count, output, dim);
            return;
        }

        for (int r = 0; r < at.RowsPerHead; r += DecodeTiles.Rows)
        {
            WeightedSums<TS, TV, T>.FourRows(weights + ((nint)r * Stride), values, offset, count, output + ((nint)r * at.OutputStride), at.OutputStride, dim);
        }
    }

    /// <summary>Widens one head of a step's tokens to floats. Returns the addresses of the rows, as many as a product may ask for: beyond the last token they repeat it.</summary>
    private static nint* Widen(in DecodeLayout at, nint* tokens, nint offset, int count, int dim, nint* rows)
    {
        for (int i = 0; i < DecodeTiles.MaxStep; i++)
        {
            float* row = at.Widened + ((nint)Math.Min(i, count - 1) * dim);
            if (i < count) RowConversion<TS, TV>.Widen<TE>((byte*)(tokens[i] + offset), row, dim);
            rows[i] = (nint)row;
        }

        return rows;
    }

    private static void MultiplyEach(float* values, int count, float factor)
    {
        for (int i = 0; i < count; i++) values[i] *= factor;
    }

    /// <summary>
    /// Asks for one head's share of some tokens ahead, all of whose heads the item has, in the order of memory where the heads of a token lie side by side: memory is read fastest in order, whatever order its contents are used in.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void PrefetchInOrder(in TokensAhead ahead, in WorkItem item, int h, int count)
    {
        (int token, int head) = Math.DivRem(h * count, item.HeadCount);
        for (int i = 0; i < count; i++)
        {
            byte* row = (byte*)(ahead.Rows[token] + ((item.Head + head) * ahead.HeadStride));
            for (nint b = 0; b < ahead.Bytes; b += CacheLine) TS.Prefetch(row + b);
            if (++head < item.HeadCount) continue;
            head = 0;
            token++;
        }
    }

    /// <summary>Asks for one head's part of some of the tokens ahead.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(in TokensAhead ahead, int head, int first, int count)
    {
        nint offset = head * ahead.HeadStride;
        for (int i = first; i < first + count; i++)
        {
            byte* row = (byte*)(ahead.Rows[i] + offset);
            for (nint b = 0; b < ahead.Bytes; b += CacheLine) TS.Prefetch(row + b);
        }
    }
}
