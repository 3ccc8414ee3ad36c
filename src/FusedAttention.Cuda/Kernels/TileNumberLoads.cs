using FusedAttention.Cuda.Ptx;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// What a tile has of a score function, for a lane that computes scores: it has rows eight apart, and two of every eight columns. One load serves all of its rows where they ask for the same key, and rows and columns eight further on
/// where they ask for a distance: with two rows and 128 keys 34 loads for 64 scores. An object is for one block of text.
/// </summary>
/// <remarks>
/// The lanes of a warp, eight rows and four pairs of columns, read fourteen diagonals that follow each other, or eight columns: no bank has two of them. Diagonals in pairs would need a second copy, moved by one, for odd rows, and take the
/// banks as long.
/// </remarks>
internal sealed class TileNumberLoads
{
    private readonly PtxKernel _k;
    private readonly TileNumbers _numbers;
    private readonly Shared _columns;
    private readonly Shared _diagonals;
    private readonly int _keyStride;
    private readonly int _distanceStride;
    private readonly int _lastRow;
    private readonly Dictionary<(int Number, int Column), F32[]> _ofKeys = [];
    private readonly Dictionary<(int Number, int Diagonal), F32> _ofDistances = [];

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="places">How they lie.</param>
    /// <param name="rows">Of a tile.</param>
    /// <param name="keys">Of a tile.</param>
    /// <param name="tile">Where the tile's begin.</param>
    /// <param name="firstRow">The lane's first row of the tile's.</param>
    /// <param name="rowsOfLane">How many it has.</param>
    /// <param name="lane">Of the warp.</param>
    public TileNumberLoads(PtxKernel k, CallReader call, TileNumberPlaces places, int rows, int keys, Shared tile, I32 firstRow, int rowsOfLane, I32 lane)
    {
        (_k, _numbers, _keyStride, _distanceStride) = (k, call.Traits.Score!.NumbersOfTile(places.HasOneHead), TileNumberPlaces.KeyStride(keys), TileNumberPlaces.DistanceStride(rows, keys));
        _lastRow = 8 * (rowsOfLane - 1);
        I32 column = (lane & 3) << 1;
        _columns = tile + (column << 2);
        _diagonals = places.OfDistances == 0 ? tile : tile + (((column - firstRow) << 2) + (places.DistancesOffset(keys) + ((rows - 1 - _lastRow) * sizeof(float))));
    }

    /// <summary>The number that a step gives for one of the lane's rows and a column from its first; null: it is none of the tile's.</summary>
    /// <param name="row">0 for the first row, 1 for the one eight further on.</param>
    public Func<int, int, F32?> OfRow(int row) => (step, column) =>
    {
        if (PlaceOf(_numbers.OfKeys, step) is >= 0 and int ofKey) return OfKey(ofKey, column);
        return PlaceOf(_numbers.OfDistances, step) is >= 0 and int ofDistance ? OfDistance(ofDistance, column - (8 * row) + _lastRow) : null;
    };

    private static int PlaceOf(IReadOnlyList<int> steps, int step)
    {
        for (int i = 0; i < steps.Count; i++)
            if (steps[i] == step) return i;
        return -1;
    }

    private F32 OfKey(int number, int column)
    {
        int first = column & -2;
        if (!_ofKeys.TryGetValue((number, first), out F32[]? pair))
            _ofKeys.Add((number, first), pair = _k.LoadVector<F32>(_columns + ((number * _keyStride) + (first * sizeof(float))), 2));
        return pair[column - first];
    }

    private F32 OfDistance(int number, int diagonal)
    {
        if (!_ofDistances.TryGetValue((number, diagonal), out F32? value))
            _ofDistances.Add((number, diagonal), value = _k.Load<F32>(_diagonals + ((number * _distanceStride) + (diagonal * sizeof(float)))));
        return value;
    }
}
