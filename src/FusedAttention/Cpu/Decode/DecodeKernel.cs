using System.Runtime.CompilerServices;
using FusedAttention.Cpu.Numerics;
using FusedAttention.Cpu.Planning;
using FusedAttention.Cpu.Rows;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Decode;

/// <summary>
/// Attention of a few query rows a head against a chunk of keys, straight from the cache: decoding is bound by reading K and V, so nothing is packed and heads are the
/// inner loop, because a token's heads lie side by side in memory and memory is read fastest in order.
/// </summary>
/// <remarks>
/// <para>Rows of a key/value head are its queries times its group of query heads, padded to a multiple of four unless there is only one.</para>
/// <para>Keys and values are asked for some tokens ahead of their use, across the boundary of K and V and of tiles.</para>
/// </remarks>
internal static unsafe class DecodeKernel<TS, TV>
    where TS : struct, ISimd<TV>
    where TV : unmanaged
{
    private const int TileKeys = DecodeTiles.Keys;

    /// <summary>Computes the chunk and leaves, row after row, m, l and O in scratch memory.</summary>
    public static void Run(AttentionProblem problem, in WorkItem item, in ScoreModification modification, in DecodeLayout at)
    {
        ref readonly SequenceProblem sequence = ref problem.Sequences[item.Sequence];
        bool queryIsScaled = Start(problem, sequence, item, at);
        KeyRange range = problem.RangeOf(sequence, 0, sequence.QueryLength - 1).Intersect(item.KeyStart, item.KeyEnd);
        if (range.IsEmpty) return;
        int tile = range.Start / TileKeys * TileKeys;
        Locate(problem, sequence, range, tile, at.Rows(0));
        for (int parity = 0; tile < range.End; tile += TileKeys, parity ^= 1)
        {
            KeyRange inTile = range.Intersect(tile, tile + TileKeys);
            TileRows next = at.Rows(parity ^ 1);
            int nextStop = Locate(problem, sequence, range, tile + TileKeys, next);
            var pass = new DecodePass(problem, item, at, queryIsScaled, at.Rows(parity), inTile.Start - tile, inTile.End - tile, next, nextStop);
            RunTile(problem, sequence, item, modification, at, pass, tile);
        }
    }

    /// <summary>Widens the queries and clears the state. Says whether the queries were scaled for the cheap form of binary16.</summary>
    private static bool Start(AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in DecodeLayout at)
    {
        int dim = problem.KeyDim;
        int size = problem.QueryType.Size();
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

        return problem.KeyValueType == AttentionElementType.Float16 && Unrebased<TS, TV>.ScaleQueries(at.Query, (nint)item.HeadCount * at.RowsPerHead * at.QueryStride);
    }

    /// <summary>Finds the rows of the tile's keys. Returns the end of them, relative to the tile; 0 if there are none.</summary>
    private static int Locate(AttentionProblem problem, in SequenceProblem sequence, KeyRange range, int tile, in TileRows rows)
    {
        KeyRange inTile = range.Intersect(tile, tile + TileKeys);
        if (inTile.IsEmpty) return 0;
        int start = inTile.Start - tile;
        int stop = inTile.End - tile;
        KeyRows.Locate(problem, sequence, inTile.Start, inTile.End, rows.Keys + start, rows.Values + start);

        for (int i = 0; i < TileRows.Padding; i++)
        {
            rows.Keys[stop + i] = rows.Keys[stop - 1];
            rows.Values[stop + i] = rows.Values[stop - 1];
        }

        return stop;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RunTile(
        AttentionProblem problem, in SequenceProblem sequence, in WorkItem item, in ScoreModification modification, in DecodeLayout at, in DecodePass pass, int tile)
    {
        switch (problem.KeyValueType)
        {
            case AttentionElementType.Float32: DecodeProducts<TS, TV, Float32Element, Float32Element>.Scores(pass); break;
            case AttentionElementType.Float16: DecodeProducts<TS, TV, Float16Element, UnrebasedFloat16Element>.Scores(pass); break;
            default: DecodeProducts<TS, TV, BFloat16Element, BFloat16Element>.Scores(pass); break;
        }

        int firstVector = pass.Start / (2 * TS.Width) * 2;
        int endVector = (pass.Stop + (2 * TS.Width) - 1) / (2 * TS.Width) * 2;
        for (int h = 0; h < item.HeadCount; h++)
        {
            for (int r = 0; r < item.RowCount; r++)
            {
                int row = (h * at.RowsPerHead) + r;
                int query = r / problem.Group;
                int head = ((item.Head + h) * problem.Group) + (r % problem.Group);
                KeyRange range = problem.RangeOf(sequence, query).Intersect(tile + pass.Start, tile + pass.Stop);
                ScoreRowContext context = modification.IsPlain ? default : ScoreRowContext.Of(problem, sequence, query, head, tile);
                ScoreRow<TS, TV>.Update(
                    at.Scores + ((nint)row * DecodeTiles.ScoreStride), firstVector, endVector, range.Start - tile, range.End - tile,
                    ref at.Max[row], ref at.Sum[row], at.Output + ((nint)row * at.OutputStride), at.OutputStride, modification, context, at.Temporary);
            }
        }

        switch (problem.KeyValueType)
        {
            case AttentionElementType.Float32: DecodeProducts<TS, TV, Float32Element, Float32Element>.Outputs(pass); break;
            case AttentionElementType.Float16: DecodeProducts<TS, TV, Float16Element, UnrebasedFloat16Element>.Outputs(pass); break;
            default: DecodeProducts<TS, TV, BFloat16Element, BFloat16Element>.Outputs(pass); break;
        }
    }
}
