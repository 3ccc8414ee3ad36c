using FusedAttention.Cuda.Ptx;

namespace FusedAttention.Cuda.Kernels;

/// <summary>Which 16-byte chunks of a tile of rows a thread copies: as many lanes share a row as its chunks allow evenly, so that neighbours read side by side.</summary>
internal sealed class RowCopies
{
    private const int MostLanesOfRow = 16;

    private readonly PtxKernel _k;
    private readonly SharedRows _layout;
    private readonly int _rows;
    private readonly int _chunks;
    private readonly int _lanesOfRow;
    private readonly Predicate? _isIdle;

    /// <param name="k">The kernel.</param>
    /// <param name="layout">How rows lie in shared memory.</param>
    /// <param name="rows">Of a tile.</param>
    /// <param name="threads">That copy it.</param>
    /// <param name="thread">This one's number among them.</param>
    public RowCopies(PtxKernel k, SharedRows layout, int rows, int threads, I32 thread)
    {
        (_k, _layout, _rows) = (k, layout, rows);
        _chunks = layout.Columns / SharedRows.Chunk;
        _lanesOfRow = Math.Min(MostLanesOfRow, _chunks & -_chunks);
        RowsOfPass = Math.Min(threads / _lanesOfRow, rows);
        if (rows % RowsOfPass != 0) throw new ArgumentException($"A tile of {rows} rows is not copied in passes of {RowsOfPass}.", nameof(rows));
        int bits = int.TrailingZeroCount(_lanesOfRow);
        FirstRow = thread >>> bits;
        I32 chunk = thread & (_lanesOfRow - 1);
        if (threads / _lanesOfRow > rows) _isIdle = FirstRow >= rows;
        ChunkOffset = chunk << 4;
        SharedOffset = I32.MultiplyAdd(FirstRow, layout.Stride, ChunkOffset);
        // Columns beyond the row's are never read: their last chunk is zero.
        LastTaken = layout.Columns == layout.Dim ? null : I32.Select((chunk + (_chunks - _lanesOfRow)).Is(_chunks - 1), 0, 16);
    }

    /// <summary>The thread's first row; it has that and every <see cref="RowsOfPass"/>-th from there.</summary>
    public I32 FirstRow { get; }

    public int RowsOfPass { get; }

    public int Passes => _rows / RowsOfPass;

    /// <summary>Of the thread's first chunk in its row, in bytes.</summary>
    public I32 ChunkOffset { get; }

    /// <summary>Of the thread's first chunk in the tile, in bytes.</summary>
    private I32 SharedOffset { get; }

    /// <summary>What is taken of the thread's last chunk; null: everything.</summary>
    private I32? LastTaken { get; }

    /// <summary>Queues the copies of one pass: all of the thread's chunks of a row.</summary>
    /// <param name="tile">Where the tile begins in shared memory.</param>
    /// <param name="pass">From 0.</param>
    /// <param name="row">Where the thread's first chunk of the row lies.</param>
    /// <param name="isInside">Whether the row is read at all, or zero; null: it is.</param>
    /// <param name="policy">Of the second-level cache; null: as with anything.</param>
    public void Copy(Shared tile, int pass, Global row, Predicate? isInside, I64? policy = null)
    {
        I32? taken = isInside is null ? null : I32.Select(isInside, 16, 0);
        void All()
        {
            for (int chunk = 0; chunk < _chunks; chunk += _lanesOfRow)
            {
                bool isLast = chunk + _lanesOfRow >= _chunks;
                I32? ofChunk = !isLast || LastTaken is null ? taken : taken is null ? LastTaken : I32.Min(taken, LastTaken);
                _k.CopyAsync(tile + SharedOffset + ((pass * RowsOfPass * _layout.Stride) + (chunk * 16)), row + (chunk * 16), ofChunk, policy);
            }
        }

        if (_isIdle is null) All();
        else _k.If(!_isIdle, All);
    }
}
