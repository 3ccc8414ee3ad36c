using System.Runtime.CompilerServices;
using FusedAttention.Paging;

namespace FusedAttention;

/// <summary>
/// Collects the sequences of one <c>ForwardPaged</c> call: cumulative query lengths, context lengths and block tables. Made by the cache, used again for every step; allocates only to grow.
/// </summary>
/// <remarks>Lengths and tables are as they were when a sequence was added: append its new tokens first. Not for use by several threads at once.</remarks>
public sealed class PagedBatch
{
    /// <summary>
    /// Views of a cache are views of native memory and keep nothing alive; block tables are managed arrays, and every call over a cache holds them. So the arrays keep the memory alive, and a cache
    /// whose last mention is a call's argument cannot be collected while the call runs.
    /// </summary>
    private static readonly ConditionalWeakTable<int[], object> MemoryOf = [];

    private readonly CacheLedger _ledger;
    private readonly object _memory;
    private int[] _cumulativeQueryLengths = new int[9];
    private int[] _contextLengths = new int[8];
    private CacheSequence[] _sequences = new CacheSequence[8];
    private int[] _tables = [];
    private int _width = 8;

    internal PagedBatch(CacheLedger ledger, object memory)
    {
        _ledger = ledger;
        _memory = memory;
        _tables = NewTables(8 * _width);
    }

    /// <summary>How many sequences were added.</summary>
    public int Count { get; private set; }

    /// <summary>Query tokens of all sequences: the length of the packed queries' first dimension.</summary>
    public int TotalQueries => _cumulativeQueryLengths[Count];

    /// <summary>The longest context among the sequences, in tokens.</summary>
    public int MaxContextLength { get; private set; }

    /// <summary>
    /// What <c>ForwardPaged</c> wants, valid until the next <see cref="Add"/> or <see cref="Clear"/>. Block-table entries past a sequence's last block, and those of dropped blocks, are -1.
    /// </summary>
    public PagedSequences Sequences => new(
        _cumulativeQueryLengths.AsSpan(0, Count + 1),
        _contextLengths.AsSpan(0, Count),
        _tables.AsSpan(0, Count * _width),
        _width);

    internal CacheLedger Ledger => _ledger;

    /// <summary>The handles of the sequences, in the order in which they were added.</summary>
    internal ReadOnlySpan<CacheSequence> Handles => _sequences.AsSpan(0, Count);

    /// <summary>Adds a sequence. Its context is all it holds now, so the new tokens must be in the cache already (at least by <c>Extend</c>).</summary>
    /// <param name="sequence">A sequence of the batch's cache; it may be added more than once.</param>
    /// <param name="queryTokens">How many rows of the packed queries are this sequence's; 0 or more, usually the tokens just appended.</param>
    /// <returns>The first of these rows.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative, or all queries together pass 2^31 - 1.</exception>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int Add(CacheSequence sequence, int queryTokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(queryTokens);
        int firstRow = TotalQueries;
        if (queryTokens > int.MaxValue - firstRow)
            throw new ArgumentOutOfRangeException(nameof(queryTokens), queryTokens, $"The batch has {firstRow} query tokens; {queryTokens} more would pass {int.MaxValue}.");

        EnsureCapacity(Count + 1, _width);
        int length;
        while (true)
        {
            int blocks = _ledger.CopyTable(sequence, _tables.AsSpan(Count * _width, _width), out length);
            if (blocks <= _width) break;
            EnsureCapacity(Count + 1, Math.Max(blocks, (int)Math.Min(Array.MaxLength, 2L * _width)));
        }

        _sequences[Count] = sequence;
        _contextLengths[Count] = length;
        MaxContextLength = Math.Max(MaxContextLength, length);
        Count++;
        _cumulativeQueryLengths[Count] = firstRow + queryTokens;
        return firstRow;
    }

    /// <summary>Empties the batch and keeps its memory.</summary>
    public void Clear()
    {
        Count = 0;
        MaxContextLength = 0;
    }

    private int[] NewTables(int entries)
    {
        var tables = new int[entries];
        MemoryOf.Add(tables, _memory);
        return tables;
    }

    private void EnsureCapacity(int sequences, int width)
    {
        if (sequences > _contextLengths.Length)
        {
            Array.Resize(ref _contextLengths, 2 * _contextLengths.Length);
            Array.Resize(ref _sequences, _contextLengths.Length);
            Array.Resize(ref _cumulativeQueryLengths, _contextLengths.Length + 1);
        }

        long needed = (long)sequences * width;
        if (width == _width && needed <= _tables.Length) return;
        if (needed > Array.MaxLength)
            throw new InvalidOperationException($"{sequences} block tables of {width} entries are more than one array holds.");
        int[] source = _tables;
        if (needed > _tables.Length) _tables = NewTables((int)Math.Min(Array.MaxLength, Math.Max(needed, 2L * _tables.Length)));

        // Rows move away from the start, so the last one goes first.
        for (int row = Count - 1; row >= 0; row--)
        {
            Span<int> moved = _tables.AsSpan(row * width, width);
            source.AsSpan(row * _width, _width).CopyTo(moved);
            moved[_width..].Fill(BlockTable.Dropped);
        }

        _width = width;
    }
}
