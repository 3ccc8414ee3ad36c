using FusedAttention.Problems;

namespace FusedAttention.Cpu.Decode;

/// <summary>One tile of keys on its way through the decode kernel, and the next tile to ask for meanwhile.</summary>
internal readonly ref struct DecodePass(
    AttentionProblem problem, in WorkItem item, in DecodeLayout at, bool queryIsScaled, TileRows rows, int start, int stop, TileRows next, int nextStop)
{
    public readonly AttentionProblem Problem = problem;
    public readonly ref readonly WorkItem Item = ref item;
    public readonly ref readonly DecodeLayout At = ref at;

    /// <summary>Whether queries carry <see cref="Unrebased{TS, TV}.SumFactor"/>.</summary>
    public readonly bool QueryIsScaled = queryIsScaled;

    /// <summary>Keys [Start, Stop) of the tile, relative to it, are in range.</summary>
    public readonly int Start = start;

    public readonly int Stop = stop;

    public readonly TileRows Rows = rows;

    /// <summary>The rows of the next tile, [0, NextStop); none if that is 0.</summary>
    public readonly TileRows Next = next;

    public readonly int NextStop = nextStop;
}
