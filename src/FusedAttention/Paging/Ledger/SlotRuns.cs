namespace FusedAttention.Paging.Ledger;

/// <summary>Rows that go to neighbouring slots of one block.</summary>
/// <param name="Row">The first row.</param>
/// <param name="Block">The block.</param>
/// <param name="Slot">The slot of the first row.</param>
/// <param name="Count">How many rows.</param>
internal readonly record struct SlotRun(int Row, int Block, int Slot, int Count);

/// <summary>Where packed rows of some sequences go, block by block: the rows of a sequence are its last tokens.</summary>
internal ref struct SlotRuns
{
    private readonly ReadOnlySpan<int> _cumulativeLengths;
    private readonly ReadOnlySpan<int> _contextLengths;
    private readonly ReadOnlySpan<int> _tables;
    private readonly int _width;
    private readonly int _firstBlock;
    private readonly int _blockSize;
    private int _sequence = -1;
    private int _row;
    private int _endRow;

    /// <param name="cumulativeLengths">Sequence s has rows [s] to [s + 1].</param>
    /// <param name="contextLengths">The position after each sequence's last row.</param>
    /// <param name="tables">Block tables, row by row.</param>
    /// <param name="width">The length of a row of <paramref name="tables"/>.</param>
    /// <param name="firstBlock">What the first entry of a row stands for: 0, or more if the tables are an extract.</param>
    /// <param name="blockSize">Tokens in a block.</param>
    public SlotRuns(ReadOnlySpan<int> cumulativeLengths, ReadOnlySpan<int> contextLengths, ReadOnlySpan<int> tables, int width, int firstBlock, int blockSize)
    {
        _cumulativeLengths = cumulativeLengths;
        _contextLengths = contextLengths;
        _tables = tables;
        _width = width;
        _firstBlock = firstBlock;
        _blockSize = blockSize;
    }

    public SlotRun Current { get; private set; }

    public readonly SlotRuns GetEnumerator() => this;

    public bool MoveNext()
    {
        while (_row == _endRow)
        {
            if (++_sequence == _contextLengths.Length) return false;
            _row = _cumulativeLengths[_sequence];
            _endRow = _cumulativeLengths[_sequence + 1];
        }

        int position = _contextLengths[_sequence] - (_endRow - _row);
        int slot = position % _blockSize;
        int count = Math.Min(_blockSize - slot, _endRow - _row);
        Current = new(_row, _tables[(_sequence * _width) + (position / _blockSize) - _firstBlock], slot, count);
        _row += count;
        return true;
    }
}
