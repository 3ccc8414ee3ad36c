using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Kernels;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// The two products of a decode tile, S = Q K^T and O += P V, for all heads. <typeparamref name="TCheap"/> is a cheaper way to load the same elements that is right unless
/// one of them is infinite or NaN (binary16 has one), or <typeparamref name="TE"/> again.
/// </summary>
internal static unsafe class DecodeProducts<TS, TV, TE, TCheap>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
    where TE : struct, IElement
    where TCheap : struct, IElement
{
    private const int TileKeys = DecodeTiles.Keys;
    private const int KeyCalls = TileKeys / DecodeTiles.KeyStep;
    private const int ValueCalls = TileKeys / DecodeTiles.ValueStep;
    private const int CacheLine = 64;

    private static bool HasCheap => typeof(TE) != typeof(TCheap);

    public static void Scores(in DecodePass pass)
    {
        AttentionProblem problem = pass.Problem;
        for (int h = 0; h < pass.Item.HeadCount; h++)
        {
            nint offset = (nint)((pass.Item.Head + h) * problem.KeyHeadStride * TE.Size);
            if (HasCheap && pass.QueryIsScaled && !AnySpecial(pass.Rows.Keys, offset, problem.KeyDim, pass)) Scores<TCheap>(pass, h, offset, Unrebased<TS, TV>.SumFactor);
            else Scores<TE>(pass, h, offset, HasCheap && pass.QueryIsScaled ? Unrebased<TS, TV>.PlainSumFactor : 1);
        }
    }

    public static void Outputs(in DecodePass pass)
    {
        AttentionProblem problem = pass.Problem;
        for (int h = 0; h < pass.Item.HeadCount; h++)
        {
            nint offset = (nint)((pass.Item.Head + h) * problem.ValueHeadStride * TE.Size);
            if (HasCheap && !AnySpecial(pass.Rows.Values, offset, problem.ValueDim, pass))
            {
                nint row = (nint)h * pass.At.RowsPerHead;
                Unrebased<TS, TV>.Multiply(pass.At.Scores + (row * TileKeys), pass.At.RowsPerHead * TileKeys, Unrebased<TS, TV>.WeightFactor);
                Outputs<TCheap>(pass, h, offset);
            }
            else
            {
                Outputs<TE>(pass, h, offset);
            }
        }
    }

    [SkipLocalsInit]
    private static void Scores<T>(in DecodePass pass, int head, nint offset, float factor)
        where T : struct, IElement
    {
        ref readonly DecodeLayout at = ref pass.At;
        nint* keys = pass.Rows.Keys;
        int dim = pass.Problem.KeyDim;
        float* query = at.Query + ((nint)head * at.RowsPerHead * at.QueryStride);
        float* scores = at.Scores + ((nint)head * at.RowsPerHead * TileKeys);
        float* sums = stackalloc float[8];
        for (int j = pass.Start; j < pass.Stop; j += DecodeTiles.KeyStep)
        {
            Prefetch(
                pass, pass.Next.Keys, (head * KeyCalls) + (j / DecodeTiles.KeyStep), pass.Item.HeadCount * KeyCalls,
                (nint)pass.Problem.KeyHeadStride * T.Size, dim * T.Size);
            int count = Math.Min(DecodeTiles.KeyStep, pass.Stop - j);
            if (at.RowsPerHead == 1)
            {
                OneRow<T>(query, keys + j, offset, dim, sums);
                for (int i = 0; i < count; i++) scores[j + i] = sums[i] * factor;
                continue;
            }

            for (int r = 0; r < at.RowsPerHead; r += DecodeTiles.Rows)
            {
                float* row = scores + ((nint)r * TileKeys) + j;
                for (int i = 0; i < count; i += 2)
                {
                    FourRows<T>(query + ((nint)r * at.QueryStride), at.QueryStride, (byte*)(keys[j + i] + offset), (byte*)(keys[j + i + 1] + offset), dim, sums);
                    for (int k = 0; k < DecodeTiles.Rows; k++)
                    {
                        row[(k * TileKeys) + i] = sums[2 * k] * factor;

                        // The second of the last pair may be a repeated key whose place belongs to the next row.
                        if (i + 1 < count) row[(k * TileKeys) + i + 1] = sums[(2 * k) + 1] * factor;
                    }
                }
            }
        }
    }

    /// <summary>Sums of whole vectors, in blocks of 128 of them (a longer chain of additions loses accuracy), and the rest of the dimension.</summary>
    private static void OneRow<T>(float* query, nint* keys, nint offset, int dim, float* sums)
        where T : struct, IElement
    {
        int block = PrefillTiles.DimBlock * TS.Width;
        int whole = dim / TS.Width * TS.Width;
        DotProducts<TS, TV, T>.OneRow(query, keys, offset, Math.Min(block, whole), sums);
        if (dim <= block && whole == dim) return;
        AddRest(query, keys, offset, dim, sums, block, whole);

        [SkipLocalsInit]
        [MethodImpl(MethodImplOptions.NoInlining)]
        static void AddRest(float* query, nint* keys, nint offset, int dim, float* sums, int block, int whole)
        {
            float* more = stackalloc float[8];
            for (int d = block; d < whole; d += block)
            {
                DotProducts<TS, TV, T>.OneRow(query + d, keys, offset + (d * T.Size), Math.Min(block, whole - d), more);
                for (int i = 0; i < 8; i++) sums[i] += more[i];
            }

            for (int i = 0; i < 8; i++) sums[i] += DotProducts<TS, TV, T>.Tail(query, (byte*)(keys[i] + offset), whole, dim);
        }
    }

    /// <inheritdoc cref="OneRow{T}" />
    private static void FourRows<T>(float* query, int stride, byte* k0, byte* k1, int dim, float* sums)
        where T : struct, IElement
    {
        int block = PrefillTiles.DimBlock * TS.Width;
        int whole = dim / TS.Width * TS.Width;
        DotProducts<TS, TV, T>.FourRows(query, stride, k0, k1, Math.Min(block, whole), sums);
        if (dim <= block && whole == dim) return;
        AddRest(query, stride, k0, k1, dim, sums, block, whole);

        [SkipLocalsInit]
        [MethodImpl(MethodImplOptions.NoInlining)]
        static void AddRest(float* query, int stride, byte* k0, byte* k1, int dim, float* sums, int block, int whole)
        {
            float* more = stackalloc float[8];
            for (int d = block; d < whole; d += block)
            {
                DotProducts<TS, TV, T>.FourRows(query + d, stride, k0 + (d * T.Size), k1 + (d * T.Size), Math.Min(block, whole - d), more);
                for (int i = 0; i < 8; i++) sums[i] += more[i];
            }

            for (int i = 0; i < 8; i++) sums[i] += DotProducts<TS, TV, T>.Tail(query + (i / 2 * (nint)stride), i % 2 == 0 ? k0 : k1, whole, dim);
        }
    }

    private static void Outputs<T>(in DecodePass pass, int head, nint offset)
        where T : struct, IElement
    {
        ref readonly DecodeLayout at = ref pass.At;
        for (int j = pass.Start; j < pass.Stop; j += DecodeTiles.ValueStep)
        {
            Prefetch(
                pass, pass.Next.Values, (head * ValueCalls) + (j / DecodeTiles.ValueStep), pass.Item.HeadCount * ValueCalls,
                (nint)pass.Problem.ValueHeadStride * T.Size, pass.Problem.ValueDim * T.Size);
            int count = Math.Min(DecodeTiles.ValueStep, pass.Stop - j);
            for (int r = 0; r < at.RowsPerHead; r += DecodeTiles.Rows)
            {
                nint row = ((nint)head * at.RowsPerHead) + r;
                float* weights = at.Scores + (row * TileKeys) + j;
                float* output = at.Output + (row * at.OutputStride);
                if (at.RowsPerHead == 1) WeightedSums<TS, TV, T>.OneRow(weights, pass.Rows.Values + j, offset, count, output, pass.Problem.ValueDim);
                else WeightedSums<TS, TV, T>.FourRows(weights, pass.Rows.Values + j, offset, count, output, at.OutputStride, pass.Problem.ValueDim);
            }
        }
    }

    private static bool AnySpecial(nint* rows, nint offset, int dim, in DecodePass pass)
    {
        for (int j = pass.Start; j < pass.Stop; j++)
        {
            if (TS.AnySpecialHalf((ushort*)(rows[j] + offset), dim)) return true;
        }

        return false;
    }

    /// <summary>
    /// Asks for a share of the next tile: the tokens that call <paramref name="call"/> of <paramref name="calls"/> is to ask for, all heads of a token before the next token, since
    /// that is how they lie in memory.
    /// </summary>
    private static void Prefetch(in DecodePass pass, nint* rows, int call, int calls, nint headStride, int rowBytes)
    {
        int end = Math.Min(pass.NextStop, (call + 1) * TileKeys / calls);
        for (int token = call * TileKeys / calls; token < end; token++)
        {
            byte* row = (byte*)(rows[token] + (pass.Item.Head * headStride));
            if (headStride == rowBytes)
            {
                PrefetchRun(row, (long)pass.Item.HeadCount * rowBytes);
                continue;
            }

            for (int h = 0; h < pass.Item.HeadCount; h++) PrefetchRun(row + (h * headStride), rowBytes);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void PrefetchRun(byte* start, long bytes)
    {
        for (long i = 0; i < bytes; i += CacheLine) TS.Prefetch(start + i);
    }
}
