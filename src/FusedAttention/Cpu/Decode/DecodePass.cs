using FusedAttention.Cpu.MachineCode.Kernels;
using FusedAttention.Cpu.Planning;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention.Cpu.Decode;

/// <summary>One tile of keys on its way through the decode kernel, and the next tile to ask for meanwhile.</summary>
internal readonly unsafe ref struct DecodePass(
    AttentionProblem problem, in WorkItem item, in DecodeLayout at, in DecodeCode code, bool queryIsScaled, TileRows rows, int start, int stop, TileRows next, int nextStop)
{
    public readonly AttentionProblem Problem = problem;
    public readonly ref readonly WorkItem Item = ref item;
    public readonly ref readonly DecodeLayout At = ref at;

    /// <summary>Machine code, where it serves.</summary>
    public readonly ref readonly DecodeCode Code = ref code;

    /// <summary>Whether queries carry <see cref="Unrebased{TS, TV}.SumFactor"/>.</summary>
    public readonly bool QueryIsScaled = queryIsScaled;

    /// <summary>Keys [Start, Stop) of the tile, relative to it, are in range.</summary>
    public readonly int Start = start;

    public readonly int Stop = stop;

    public readonly TileRows Rows = rows;

    /// <summary>The rows of the next tile, [0, NextStop); none if that is 0.</summary>
    public readonly TileRows Next = next;

    public readonly int NextStop = nextStop;

    /// <summary>Whether there are one row a head and enough heads to read tokens one by one.</summary>
    public readonly bool IsByToken = ReadsByToken(at, item);

    /// <summary>Values that one chain of multiply-adds takes.</summary>
    public readonly int ValueStep = DecodeTiles.ValueStep(at.RowsPerHead, problem.KeyValueHeads * (long)problem.KeyValueType.RowBytes(problem.ValueDim), item.VisibleKeys);

    /// <summary>How far ahead of its use a token is asked for.</summary>
    public readonly int Ahead = DecodeTiles.TokensAhead(ReadsByToken(at, item), problem.KeyValueHeads * (long)problem.KeyValueType.RowBytes(problem.KeyDim));

    private readonly nint _keyHeadStride = (nint)(problem.KeyHeadStride * problem.KeyValueType.Size());
    private readonly nint _valueHeadStride = (nint)(problem.ValueHeadStride * problem.KeyValueType.Size());
    private readonly int _keyBytes = problem.KeyValueType.RowBytes(problem.KeyDim);
    private readonly int _valueBytes = problem.KeyValueType.RowBytes(problem.ValueDim);

    /// <summary>The tokens that are used some time after the keys from <paramref name="j"/> on: later keys, or the tile's first values.</summary>
    public TokensAhead AfterKeys(int j)
    {
        int later = j + Ahead;
        return later < Stop ? KeysFrom(Rows.Keys + later) : ValuesFrom(Rows.Values + Math.Min(Start + later - Stop, Stop - 1));
    }

    /// <summary>The tokens that are used some time after the values from <paramref name="j"/> on: later values, or the next tile's first keys.</summary>
    public TokensAhead AfterValues(int j)
    {
        int later = j + Ahead;
        if (later < Stop) return ValuesFrom(Rows.Values + later);
        return NextStop > 0 ? KeysFrom(Next.Keys + Math.Min(later - Stop, NextStop - 1)) : ValuesFrom(Rows.Values + j);
    }

    /// <summary>The first key, in steps from the tile's first, from which on <see cref="AfterKeys"/> is about values.</summary>
    public int FirstAfterKeys(int step) => FirstBeyond(step);

    /// <summary>The first value, in steps from the tile's first, from which on <see cref="AfterValues"/> is about the next tile, if there is one.</summary>
    public int FirstAfterValues(int step) => FirstBeyond(step);

    /// <summary>The first of Start, Start + step, ... for which <see cref="Ahead"/> later is beyond the tile; its end if there is none.</summary>
    private int FirstBeyond(int step) => Math.Min(Stop, Start + ((Math.Max(0, Stop - Ahead - Start) + step - 1) / step * step));

    private static bool ReadsByToken(in DecodeLayout at, in WorkItem item) => at.RowsPerHead == 1 && item.HeadCount >= DecodeTiles.MinHeadsByToken;

    private TokensAhead KeysFrom(nint* rows) => new(rows, _keyHeadStride, _keyBytes);

    private TokensAhead ValuesFrom(nint* rows) => new(rows, _valueHeadStride, _valueBytes);
}

/// <summary>Tokens to ask for: the addresses of head 0, as many as a step has, and how far heads lie apart and reach, in bytes.</summary>
internal readonly unsafe struct TokensAhead(nint* rows, nint headStride, int bytes)
{
    public readonly nint* Rows = rows;
    public readonly nint HeadStride = headStride;
    public readonly int Bytes = bytes;
}
