using System.Runtime.CompilerServices;

namespace FusedAttention.Paging.Ledger;

/// <summary>
/// The block tables of a batch, a row of equal width for each sequence, padded with -1. A row remembers whose it was and when: what the same sequence has at the same place in the next step is not copied
/// again, so a step costs the blocks that are new.
/// </summary>
internal sealed class TableRows
{
    private const int NarrowestWidth = 8;

    /// <summary>Memory of less than 1 MiB is kept, so that contexts which come and go allocate nothing.</summary>
    private const int LargeLength = 1 << 18;

    /// <summary>
    /// Views of a cache are views of native memory and keep nothing alive; block tables are managed arrays, and every call over a cache holds them. So the arrays keep the memory alive, and a cache
    /// whose last mention is a call's argument cannot be collected while the call runs.
    /// </summary>
    private static readonly ConditionalWeakTable<int[], object> MemoryOf = [];

    private readonly object _memory;
    private int[] _entries;
    private Row[] _rows = [];

    /// <param name="memory">What the entries must keep alive.</param>
    public TableRows(object memory)
    {
        _memory = memory;
        _entries = NewEntries(8 * NarrowestWidth);
        _rows = new Row[8];
    }

    /// <summary>Entries of a row.</summary>
    public int Width { get; private set; } = NarrowestWidth;

    /// <summary>Entries that were copied from tables, for tests of what a step costs.</summary>
    internal long Copied { get; private set; }

    /// <summary>The first rows, one behind the other.</summary>
    public ReadOnlySpan<int> First(int rows) => _entries.AsSpan(0, rows * Width);

    /// <summary>
    /// Makes room. The width doubles to grow; it shrinks when a batch begins that needs a quarter of it, so that a long sequence that has ended is paid for by nobody.
    /// </summary>
    /// <param name="rows">How many rows there will be.</param>
    /// <param name="inUse">How many of them hold what the batch has already.</param>
    /// <param name="blocks">The longest table.</param>
    public void Fit(int rows, int inUse, int blocks)
    {
        int width = Width;
        if (blocks > width) width = Math.Max(blocks, (int)Math.Min(Array.MaxLength, 2L * width));
        else if (inUse == 0 && 4L * blocks < width) width = Math.Max(NarrowestWidth, 2 * blocks);
        long needed = (long)rows * width;
        if (width == Width && needed <= _entries.Length && rows <= _rows.Length) return;
        if (needed > Array.MaxLength) throw new InvalidOperationException($"{rows} block tables of {width} entries are more than one array holds.");

        int kept = width == Width ? Math.Min(_rows.Length, _entries.Length / Width) : inUse;
        if (needed > _entries.Length) Move(NewEntries((int)Math.Min(Array.MaxLength, Math.Max(needed, width == Width ? 2L * _entries.Length : 0))), kept, width);
        else if (width < Width && _entries.Length > LargeLength && _entries.Length > 4 * needed) _entries = NewEntries((int)needed);
        else if (width != Width) Move(_entries, kept, width);
        if (rows > _rows.Length) Array.Resize(ref _rows, Math.Max(rows, 2 * _rows.Length));
        _rows.AsSpan(kept).Clear();
        Width = width;
    }

    /// <summary>Copies as much of a table as a row does not have yet.</summary>
    /// <param name="row">Which.</param>
    /// <param name="table">The table.</param>
    /// <param name="blocks">How many blocks of it.</param>
    /// <param name="version">Now.</param>
    public void Copy(int row, BlockTable table, int blocks, long version)
    {
        ref Row known = ref _rows[row];
        Span<int> entries = _entries.AsSpan(row * Width, Width);
        int same = known.Generation == table.Generation ? Math.Min(known.Blocks, table.UnchangedSince(known.CopiedAt)) : 0;
        same = Math.Min(same, blocks);
        if (known.Dropped < same && known.Dropped < table.DroppedBlocks) entries[known.Dropped..Math.Min(same, table.DroppedBlocks)].Fill(BlockTable.Dropped);
        table.Blocks[same..blocks].CopyTo(entries[same..]);
        Copied += blocks - same;
        if (blocks < known.Blocks) entries[blocks..known.Blocks].Fill(BlockTable.Dropped);
        known = new() { Generation = table.Generation, CopiedAt = version, Blocks = blocks, Dropped = table.DroppedBlocks };
    }

    /// <summary>Moves rows to their places in another array, or farther apart in the same one, and pads what is behind them.</summary>
    private void Move(int[] entries, int rows, int width)
    {
        // They move away from the start, so the last one goes first.
        for (int row = rows - 1; row >= 0; row--)
        {
            Span<int> moved = entries.AsSpan(row * width, width);
            _entries.AsSpan(row * Width, Width).CopyTo(moved);
            moved[Width..].Fill(BlockTable.Dropped);
        }

        entries.AsSpan(rows * width).Fill(BlockTable.Dropped);
        _entries = entries;
    }

    private int[] NewEntries(int count)
    {
        int[] entries = new int[count];
        entries.AsSpan().Fill(BlockTable.Dropped);
        MemoryOf.Add(entries, _memory);
        return entries;
    }

    /// <summary>What a row holds; behind that it is -1.</summary>
    private struct Row
    {
        public long Generation;
        public long CopiedAt;
        public int Blocks;
        public int Dropped;
    }
}
