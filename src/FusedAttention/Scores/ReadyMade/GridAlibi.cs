using System.Runtime.CompilerServices;

namespace FusedAttention;

/// <summary>ALiBi on the tokens of an image, row by row in a grid: <c>s - slope[head] * distance</c>, along rows and columns or straight. Positions are 0 or more.</summary>
/// <param name="slopes">One a query head: AlibiSlopes.ForHeads has the paper's.</param>
/// <param name="width">Tokens of a row.</param>
/// <param name="isEuclidean">The straight distance rather than rows plus columns.</param>
public readonly struct GridAlibi(ScoreTable slopes, int width, bool isEuclidean = false) : IScoreFunction
{
    /// <inheritdoc />
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public T Score<T>(T score, in ScoreContext<T> at)
        where T : struct, IScoreValue<T>
    {
        T queryRow = T.Floor(at.Position / width), keyRow = T.Floor(at.Key / width);
        T rows = queryRow - keyRow;
        T columns = at.Position - at.Key - (rows * width);
        T distance = isEuclidean ? T.Sqrt((rows * rows) + (columns * columns)) : T.Abs(rows) + T.Abs(columns);
        return score - (slopes.At(at.Head) * distance);
    }
}
