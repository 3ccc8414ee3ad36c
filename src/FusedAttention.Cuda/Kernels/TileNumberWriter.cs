using FusedAttention.Cuda.Ptx;
using FusedAttention.Scores.Tracing;

namespace FusedAttention.Cuda.Kernels;

/// <summary>
/// Computes what tiles have of a score function, by the very operations that a score has for it otherwise: a whole number of positions from key to row is exact, so a number has the same bits for all scores that share it.
/// </summary>
internal sealed class TileNumberWriter
{
    private readonly PtxKernel _k;
    private readonly CallReader _call;
    private readonly TileNumbers _numbers;
    private readonly TileNumberPlaces _places;
    private readonly int _rows;
    private readonly int _keys;
    private readonly int _threads;
    private readonly I32 _thread;
    private readonly RowReader _lastRow;

    /// <param name="k">The kernel.</param>
    /// <param name="call">The call.</param>
    /// <param name="places">How they lie.</param>
    /// <param name="place">The item and its head.</param>
    /// <param name="rows">Of a tile.</param>
    /// <param name="keys">Of a tile.</param>
    /// <param name="thread">Among those who share the work.</param>
    /// <param name="threads">How many those are.</param>
    public TileNumberWriter(PtxKernel k, CallReader call, TileNumberPlaces places, WorkPlace place, int rows, int keys, I32 thread, int threads)
    {
        (_k, _call, _places, _rows, _keys, _thread, _threads) = (k, call, places, rows, keys, thread, threads);
        _numbers = call.Traits.Score!.NumbersOfTile(places.HasOneHead);

        // An item's rows may end earlier; distances go on, and nobody reads those beyond.
        _lastRow = RowReader.Of(k, call, place.Sequence, place.Head, place.Item.FirstRow + (places.OfDistances > 0 ? rows - 1 : 0), place.Item);
    }

    /// <summary>Leaves the numbers of a tile.</summary>
    /// <param name="key">Its first key.</param>
    /// <param name="to">Where to.</param>
    public void Leave(I32 key, Shared to)
    {
        if (_places.OfKeys > 0) _k.For("column", _thread, _keys, _threads, column => Leave(_numbers.OfKeys, key + column, to + (column << 2), TileNumberPlaces.KeyStride(_keys)));
        if (_places.OfDistances == 0) return;

        // Few threads take two at a time: look-ups wait together.
        int together = Math.Max(1, TileNumberPlaces.DiagonalsTogether / _threads);
        Shared diagonals = to + _places.DistancesOffset(_keys);
        _k.For("diagonal", _thread, TileNumberPlaces.DiagonalsOf(_rows, _keys), together * _threads, diagonal =>
        {
            for (int i = 0; i < together; i++)
                Leave(_numbers.OfDistances, key + diagonal + (i * _threads), diagonals + (diagonal << 2) + (i * _threads * sizeof(float)), TileNumberPlaces.DistanceStride(_rows, _keys));
        });
    }

    private void Leave(IReadOnlyList<int> steps, I32 key, Shared to, int stride) => new RowFunction(FunctionBlock.OfScore(_k, _call.Traits), _lastRow, key).LeaveNumbers(steps, to, stride);
}
