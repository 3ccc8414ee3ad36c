using FusedAttention.Paging.Ledger;

namespace FusedAttention;

/// <summary>
/// Collects the sequences of one step of a model: cumulative query lengths, context lengths and block tables. Made by the cache, used again for every step; allocates only to grow.
/// </summary>
/// <remarks>
/// Lengths are as they were when a sequence was added: append its new tokens first. The calls over a cache and a batch bring the block tables up to date if others have changed them, and refuse a batch
/// with a sequence that was freed or shortened since. Not for use by several threads at once.
/// </remarks>
public sealed class PagedBatch
{
    private readonly CacheLedger _ledger;
    private readonly TableRows _rows;
    private int[] _cumulativeQueryLengths = new int[9];
    private int[] _contextLengths = new int[8];
    private CacheSequence[] _sequences = new CacheSequence[8];
    private long[] _addedAt = new long[8];
    private int[] _positions = [];
    private bool _hasPositions;

    /// <summary>The blocks of the longest table.</summary>
    private int _longest;

    /// <summary>The same of the batch before.</summary>
    private int _longestBefore;

    /// <summary>The ledger's version that the tables are true of.</summary>
    private long _currentAt;

    /// <summary>The ledger's version in which the rows of the batch can be written; 0 if nobody has asked yet.</summary>
    private long _writableAt;

    internal PagedBatch(CacheLedger ledger, object memory)
    {
        _ledger = ledger;
        _rows = new(memory);
    }

    /// <summary>How many sequences were added.</summary>
    public int Count { get; private set; }

    /// <summary>Query tokens of all sequences: the length of the packed queries' first dimension.</summary>
    public int TotalQueries => _cumulativeQueryLengths[Count];

    /// <summary>The longest context among the sequences, in tokens.</summary>
    public int MaxContextLength { get; private set; }

    /// <summary>
    /// The batch for those calls that take tensors instead of a cache, valid until it is changed or handed to a cache again. Block-table entries past a sequence's last block, and those of dropped blocks,
    /// are -1.
    /// </summary>
    public PagedSequences Sequences => new(
        _cumulativeQueryLengths.AsSpan(0, Count + 1),
        _contextLengths.AsSpan(0, Count),
        _rows.First(Count),
        _rows.Width);

    /// <summary>
    /// The position of each query row in its sequence, <c>[TotalQueries]</c>: the last tokens of a context are its queries. What <see cref="RotaryEmbedding"/> turns queries by; valid until the batch is changed.
    /// </summary>
    public ReadOnlySpan<int> Positions
    {
        get
        {
            if (!_hasPositions) WritePositions();
            return _positions.AsSpan(0, TotalQueries);
        }
    }

    internal CacheLedger Ledger => _ledger;

    /// <summary>Entries of block tables that were copied, for tests of what a step costs.</summary>
    internal long CopiedBlocks => _rows.Copied;

    /// <summary>Where the rows of the batch go.</summary>
    internal SlotRuns Slots => new(_cumulativeQueryLengths.AsSpan(0, Count + 1), _contextLengths.AsSpan(0, Count), _rows.First(Count), _rows.Width, firstBlock: 0, _ledger.BlockSize);

    private BatchTables Tables => new()
    {
        Sequences = _sequences.AsSpan(0, Count),
        CumulativeLengths = _cumulativeQueryLengths.AsSpan(0, Count + 1),
        ContextLengths = _contextLengths.AsSpan(0, Count),
        AddedAt = _addedAt.AsSpan(0, Count),
        Rows = _rows,
    };

    /// <summary>Adds a sequence. Its context is all it holds now, so the new tokens must be in the cache already (at least by <c>Extend</c>).</summary>
    /// <param name="sequence">A sequence of the batch's cache. It may be added more than once to a batch that is only read.</param>
    /// <param name="queryTokens">How many rows of the packed queries are this sequence's; 0 or more, usually the tokens just appended.</param>
    /// <returns>The first of these rows.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The number is negative, or all queries together pass 2^31 - 1.</exception>
    /// <exception cref="ArgumentException">The handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public int Add(CacheSequence sequence, int queryTokens)
    {
        int firstRow = TotalQueries;
        Add([sequence], [queryTokens]);
        return firstRow;
    }

    /// <summary>Adds several sequences, all or none, as adding one after the other does, but asks the cache only once.</summary>
    /// <param name="sequences">Sequences of the batch's cache.</param>
    /// <param name="queryTokens">The number of rows of each; 0 or more.</param>
    /// <exception cref="ArgumentOutOfRangeException">A number is negative, or all queries together pass 2^31 - 1.</exception>
    /// <exception cref="ArgumentException">The spans differ in length, or a handle is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Add(ReadOnlySpan<CacheSequence> sequences, ReadOnlySpan<int> queryTokens)
    {
        if (sequences.Length != queryTokens.Length)
            throw new ArgumentException($"There are {sequences.Length} sequences and {queryTokens.Length} numbers of tokens; each sequence needs one.", nameof(queryTokens));
        int count = Count + sequences.Length;
        EnsureCapacity(count);
        int row = TotalQueries;
        for (int i = 0; i < queryTokens.Length; i++)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(queryTokens[i], nameof(queryTokens));
            if (queryTokens[i] > int.MaxValue - row)
                throw new ArgumentOutOfRangeException(nameof(queryTokens), queryTokens[i], $"The batch has {row} query tokens; {queryTokens[i]} more would pass {int.MaxValue}.");
            row += queryTokens[i];
            _cumulativeQueryLengths[Count + i + 1] = row;
        }

        Span<int> lengths = _contextLengths.AsSpan(Count, sequences.Length);

        // Who adds sequences one by one may have a long one to come, as in the step before.
        int longest = Count == 0 && sequences.Length == 1 ? _longestBefore : _longest;
        _ledger.CopyTables(sequences, _rows, Count, longest, lengths, out int longestTable, out long version);
        _longest = Math.Max(_longest, longestTable);
        sequences.CopyTo(_sequences.AsSpan(Count));
        _addedAt.AsSpan(Count, sequences.Length).Fill(version);
        foreach (int length in lengths) MaxContextLength = Math.Max(MaxContextLength, length);

        // Tables that were copied before may be out of date by now: the older version stands for all.
        if (Count == 0) _currentAt = version;
        _writableAt = 0;
        _hasPositions = false;
        Count = count;
    }

    /// <summary>Empties the batch and keeps its memory.</summary>
    public void Clear()
    {
        if (Count > 0) _longestBefore = _longest;
        Count = 0;
        _longest = 0;
        MaxContextLength = 0;
        _writableAt = 0;
        _hasPositions = false;
    }

    /// <summary>Brings the tables up to date before they are read.</summary>
    internal void Refresh() => _ledger.Refresh(Tables, ref _currentAt);

    /// <summary>Makes sure that nobody else sees what is about to be written to one layer, and brings the tables up to date.</summary>
    internal void PrepareWrite(int layer) => _ledger.PrepareWrite(Tables, layer, ref _currentAt, ref _writableAt);

    private void WritePositions()
    {
        if (_positions.Length < TotalQueries) _positions = new int[Math.Max(TotalQueries, (int)Math.Min(Array.MaxLength, 2L * _positions.Length))];
        for (int sequence = 0; sequence < Count; sequence++)
        {
            // More queries than keys begin before the first key.
            int end = _cumulativeQueryLengths[sequence + 1], after = _contextLengths[sequence] - end;
            for (int row = _cumulativeQueryLengths[sequence]; row < end; row++) _positions[row] = after + row;
        }

        _hasPositions = true;
    }

    private void EnsureCapacity(int sequences)
    {
        if (sequences <= _contextLengths.Length) return;
        int capacity = Math.Max(sequences, 2 * _contextLengths.Length);
        Array.Resize(ref _cumulativeQueryLengths, capacity + 1);
        Array.Resize(ref _sequences, capacity);
        Array.Resize(ref _addedAt, capacity);
        Array.Resize(ref _contextLengths, capacity);
    }
}
