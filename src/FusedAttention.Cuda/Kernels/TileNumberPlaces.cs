using FusedAttention.Scores.Tracing;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// How many numbers tiles have of a score function (<see cref="TileNumbers"/>), and how they lie in shared memory: those of keys, a float a column each, and behind them those of distances, a float a diagonal. The diagonal of a row and a
/// column is the column less the row, counted from that of the last row and the first column.
/// </summary>
/// <param name="OfKeys">Numbers of a key.</param>
/// <param name="OfDistances">Numbers of a distance.</param>
/// <param name="HasOneHead">Whether the rows of a tile are of one query head.</param>
internal readonly record struct TileNumberPlaces(int OfKeys, int OfDistances, bool HasOneHead)
{
    /// <summary>Those who compute take so many diagonals at a time, at least.</summary>
    public const int DiagonalsTogether = 64;

    /// <summary>Whether there are any.</summary>
    public bool Exist => OfKeys + OfDistances > 0;

    /// <summary>Those of a call.</summary>
    /// <param name="form">Its score function; null without one.</param>
    /// <param name="group">Query heads of a key/value head.</param>
    public static TileNumberPlaces Of(ScoreForm? form, int group)
    {
        if (form?.NumbersOfTile(group == 1) is not { } numbers) return default;
        var places = new TileNumberPlaces(numbers.OfKeys.Count, numbers.OfDistances.Count, numbers.HasOneHead);
        return places.Exist ? places : default;
    }

    /// <summary>Diagonals of a tile, and a few more that nobody reads.</summary>
    public static int DiagonalsOf(int rows, int keys) => (rows + keys + DiagonalsTogether - 1) & -DiagonalsTogether;

    /// <summary>From one number of a key to the next.</summary>
    public static int KeyStride(int keys) => keys * sizeof(float);

    /// <summary>From one number of a distance to the next.</summary>
    public static int DistanceStride(int rows, int keys) => DiagonalsOf(rows, keys) * sizeof(float);

    /// <summary>Where those of distances begin.</summary>
    public int DistancesOffset(int keys) => OfKeys * KeyStride(keys);

    /// <summary>The numbers of a tile.</summary>
    public int Bytes(int rows, int keys) => DistancesOffset(keys) + (OfDistances * DistanceStride(rows, keys));
}
