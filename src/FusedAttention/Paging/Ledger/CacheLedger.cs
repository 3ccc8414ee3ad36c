using FusedAttention.Diagnostics;

namespace FusedAttention.Paging.Ledger;

/// <summary>
/// The bookkeeping of a paged cache apart from its contents: sequences, their block tables, owners of blocks, copy on write, prompt prefixes. Caches in host and in device
/// memory share it.
/// </summary>
/// <remarks>
/// One lock serialises all operations. An operation first finds out what it needs, throws if it cannot have it, and only then changes anything.
/// Blocks in use never move: a copy on write gives the writer a new block and leaves the old one to its other owners.
/// Nothing is allocated once the tables have reached their size.
/// </remarks>
internal sealed partial class CacheLedger : IBlockCounts
{
    private static long _lastGeneration;

    private readonly Lock _gate = new();
    private readonly BlockPool _pool;
    private readonly PrefixIndex _prefixes;
    private readonly IBlockStorage _storage;
    private readonly Type _owner;
    private readonly int _layers;
    private readonly Stack<int> _unusedIds = new();
    private BlockTable[] _tables = [];
    private int _sequences;
    private long _lastCall;
    private bool _closed;

    /// <summary>
    /// Grows whenever what somebody was told may no longer hold: a block got another owner or can be found by its tokens, so it must not be written; or a table lost a block or got another one in its
    /// place, or its sequence became shorter or ended, so a copy of the table is out of date.
    /// </summary>
    private long _version = 1;

    /// <param name="blocks">Blocks in the pool.</param>
    /// <param name="blockSize">Tokens in a block.</param>
    /// <param name="layers">Layers that a token is written in.</param>
    /// <param name="storage">Holds the contents.</param>
    /// <param name="owner">The kind of cache, for messages.</param>
    /// <param name="prefixBuckets">Buckets of the prefix index; 0 for as many as blocks.</param>
    public CacheLedger(int blocks, int blockSize, int layers, IBlockStorage storage, Type owner, int prefixBuckets = 0)
    {
        BlockSize = blockSize;
        _layers = layers;
        _storage = storage;
        _owner = owner;
        _pool = new(blocks);
        _prefixes = new(blocks, prefixBuckets);
    }

    public int BlockSize { get; }

    public int TotalBlocks => _pool.Total;

    public int UsedBlocks => _pool.Used;

    public int AvailableBlocks => _pool.Available;

    public int KeptBlocks => _pool.Kept;

    public int Sequences => Volatile.Read(ref _sequences);

    public bool IsClosed => Volatile.Read(ref _closed);

    /// <summary>Now, in changes of block tables.</summary>
    public long Version => Volatile.Read(ref _version);

    /// <summary>How often the lock was taken, for tests of what a step costs.</summary>
    internal long Entries { get; private set; }

    /// <summary>Refuses all further operations.</summary>
    public void Close()
    {
        using (Enter())
        {
            Volatile.Write(ref _closed, true);
            BlocksAreReleased();
        }
    }

    public CacheSequence Create()
    {
        using (Enter())
        {
            ThrowIfClosed();
            return NewSequence(out _);
        }
    }

    /// <summary>A sequence that has dropped all tokens before a position, and has none from there on.</summary>
    /// <param name="position">A multiple of the block size.</param>
    public CacheSequence Create(int position)
    {
        using (Enter())
        {
            ThrowIfClosed();
            int blocks = position / BlockSize;
            CacheSequence sequence = NewSequence(out BlockTable table, blocks);
            for (int i = 0; i < blocks; i++) table.Add(BlockTable.Dropped);
            table.Length = position;
            table.DroppedBlocks = blocks;
            return sequence;
        }
    }

    public bool Contains(CacheSequence sequence)
    {
        using (Enter()) return TryFind(sequence, out _);
    }

    public int GetLength(CacheSequence sequence)
    {
        using (Enter()) return Find(sequence).Length;
    }

    /// <summary>The first position whose block was not dropped.</summary>
    public int GetFirstPosition(CacheSequence sequence)
    {
        using (Enter()) return Find(sequence).DroppedBlocks * BlockSize;
    }

    /// <summary>The first position whose block was not dropped, and how many tokens there are.</summary>
    public (int First, int Length) GetPositions(CacheSequence sequence)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            return (table.DroppedBlocks * BlockSize, table.Length);
        }
    }

    /// <summary>A second sequence with the same tokens, in the same blocks.</summary>
    public CacheSequence Fork(CacheSequence sequence)
    {
        using (Enter())
        {
            BlockTable source = Find(sequence);
            CacheSequence fork = NewSequence(out BlockTable table, source.Count);
            foreach (int block in source.Blocks)
            {
                if (block != BlockTable.Dropped) _pool.Share(block);
                table.Add(block);
            }

            _version++;
            table.Length = source.Length;
            table.DroppedBlocks = source.DroppedBlocks;
            table.DroppedAt = source.DroppedAt;
            table.Published = source.Published;
            table.Freshness.CopyFrom(source.Freshness);
            return fork;
        }
    }

    /// <summary>Forgets the tokens from position <paramref name="length"/> on.</summary>
    public void Truncate(CacheSequence sequence, int length)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            if (length < 0 || length > table.Length)
                throw new ArgumentOutOfRangeException(nameof(length), length, $"{sequence} has {table.Length} tokens; it cannot be truncated to {length}.");
            int firstPosition = table.DroppedBlocks * BlockSize;
            if (length > 0 && length < firstPosition)
                throw new ArgumentOutOfRangeException(nameof(length), length, $"{sequence} has dropped its tokens before position {firstPosition}; it can be truncated to 0 or to {firstPosition} and more, not to {length}.");
            Truncate(table, length);
        }
    }

    /// <summary>Takes back what was appended to a sequence, if it is then what it was before.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="length">Its tokens before.</param>
    /// <param name="since">The <see cref="Version"/> then.</param>
    /// <returns>
    /// False if the sequence is not there, or is shorter, or has dropped blocks for the sake of what is to be taken back: a window that ends earlier may need them. Then nothing has changed.
    /// </returns>
    public bool TryTakeBack(CacheSequence sequence, int length, long since)
    {
        using (Enter())
        {
            if (!TryFind(sequence, out BlockTable table) || length > table.Length) return false;
            bool lacksBlocks = table.DroppedAt > since || length < table.DroppedBlocks * BlockSize;
            if (length < table.Length && lacksBlocks) return false;
            Truncate(table, length);
            return true;
        }
    }

    /// <summary>Gives back the blocks whose tokens all lie before <paramref name="position"/>.</summary>
    public void DropBefore(CacheSequence sequence, int position)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            if (position < 0 || position > table.Length)
                throw new ArgumentOutOfRangeException(nameof(position), position, $"{sequence} has {table.Length} tokens; there is no position {position} to drop them before.");
            Drop(table, position);
        }
    }

    /// <summary>Does the same if the sequence is there and the position is one of its own.</summary>
    public void TryDropBefore(CacheSequence sequence, int position)
    {
        using (Enter())
        {
            if (position > 0 && TryFind(sequence, out BlockTable table) && position <= table.Length) Drop(table, position);
        }
    }

    public void Free(CacheSequence sequence)
    {
        using (Enter())
        {
            Free(sequence.Id, Find(sequence));
            BlocksAreReleased();
        }
    }

    /// <summary>Frees a sequence if it is there.</summary>
    public void TryFree(CacheSequence sequence)
    {
        using (Enter())
        {
            if (!TryFind(sequence, out BlockTable table)) return;
            Free(sequence.Id, table);
            BlocksAreReleased();
        }
    }

    /// <summary>Takes back the creation of a sequence that nothing was added to: nobody who waits for blocks is told, because there are no more than before.</summary>
    public void Discard(CacheSequence sequence)
    {
        using (Enter()) Free(sequence.Id, Find(sequence));
    }

    /// <summary>Copies the whole table and pads the rest of <paramref name="destination"/> with -1; copies nothing if it is too short.</summary>
    /// <returns>How many blocks the table has.</returns>
    public int CopyTable(CacheSequence sequence, Span<int> destination)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            if (table.Count <= destination.Length) CopyPadded(table.Blocks, destination);
            return table.Count;
        }
    }

    /// <summary>How many sequences own a block, for tests.</summary>
    internal int Owners(int block)
    {
        using (Enter()) return _pool.Owners(block);
    }

    private static void CopyPadded(ReadOnlySpan<int> blocks, Span<int> destination)
    {
        blocks.CopyTo(destination);
        destination[blocks.Length..].Fill(BlockTable.Dropped);
    }

    private Lock.Scope Enter()
    {
        Lock.Scope scope = _gate.EnterScope();
        Entries++;
        return scope;
    }

    private int BlocksFor(int tokens) => (int)(((long)tokens + BlockSize - 1) / BlockSize);

    private void ThrowIfFewerThan(int needed)
    {
        if (needed > _pool.Available) throw new OutOfBlocksException(needed, _pool.Available, _pool.Total);
    }

    private void Truncate(BlockTable table, int length)
    {
        if (length == table.Length) return;
        int blocks = BlocksFor(length), before = table.Count;
        while (table.Count > blocks) Release(table.RemoveLast());
        table.Length = length;
        table.Freshness.Truncate(length);
        table.ShortenedAt = ++_version;
        table.Change(blocks, _version);
        if (table.Published.Blocks > length / BlockSize) table.Published = default;
        if (length == 0) table.DroppedBlocks = 0;
        if (blocks < before) BlocksAreReleased();
    }

    private void Drop(BlockTable table, int position)
    {
        int blocks = position / BlockSize;
        if (blocks <= table.DroppedBlocks) return;
        for (int i = blocks - 1; i >= table.DroppedBlocks; i--)
        {
            Release(table[i]);
            table[i] = BlockTable.Dropped;
        }

        table.DroppedBlocks = blocks;
        table.DroppedAt = ++_version;
        BlocksAreReleased();
    }

    private void Free(int id, BlockTable table)
    {
        // From the end, so that of a kept prompt the last blocks are the first to be given up: the shorter a prefix, the likelier that it is asked for again.
        while (table.Count > 0) Release(table.RemoveLast());
        table.Reset();
        _unusedIds.Push(id);
        _version++;
        Volatile.Write(ref _sequences, _sequences - 1);
    }

    /// <summary>Copies the block if others see it too, or takes it out of the prefix index if it will no longer hold what the index says.</summary>
    private void MakeBlockWritable(BlockTable table, int index, int firstSlot)
    {
        int block = table[index];
        if (_pool.Owners(block) == 1)
        {
            if (!_prefixes.Contains(block) || _prefixes.Tokens(block).Length <= firstSlot) return;
            _prefixes.Remove(block);
            table.Published = default;
            return;
        }

        int copy = Take();
        try
        {
            _storage.CopyBlock(block, copy, Math.Min(BlockSize, table.Length - (index * BlockSize)));
        }
        catch
        {
            _pool.Release(copy, keep: false);
            throw;
        }

        table[index] = copy;
        table.Change(index, ++_version);
        if (table.Published.Blocks > index) table.Published = default;
        Release(block);
    }

    private int Take()
    {
        int block = _pool.Take(out bool wasKept);
        if (wasKept) _prefixes.Remove(block);
        return block;
    }

    private void Release(int block)
    {
        if (block == BlockTable.Dropped) return;
        bool keep = false;
        if (_pool.Owners(block) == 1 && _prefixes.Contains(block))
        {
            keep = _hasWindows || _prefixes.HasParent(block);
            if (!keep) _prefixes.Remove(block);
        }

        _pool.Release(block, keep);
    }

    private CacheSequence NewSequence(out BlockTable table, int capacity = 0)
    {
        if (_unusedIds.Count == 0)
        {
            int known = _tables.Length;
            var grown = new BlockTable[Math.Max(16, 2 * known)];
            _tables.CopyTo(grown, 0);
            for (int i = known; i < grown.Length; i++) grown[i] = new();
            _unusedIds.EnsureCapacity(grown.Length);
            for (int i = grown.Length - 1; i >= known; i--) _unusedIds.Push(i);
            _tables = grown;
        }

        int id = _unusedIds.Peek();
        table = _tables[id];
        table.EnsureCapacity(capacity);
        _unusedIds.Pop();
        table.Generation = Interlocked.Increment(ref _lastGeneration);
        Volatile.Write(ref _sequences, _sequences + 1);
        return new(id, table.Generation);
    }

    private bool TryFind(CacheSequence sequence, out BlockTable table)
    {
        table = (uint)sequence.Id < (uint)_tables.Length ? _tables[sequence.Id] : null!;
        return !_closed && table is not null && sequence.Generation != 0 && table.Generation == sequence.Generation;
    }

    private BlockTable Find(CacheSequence sequence)
    {
        ThrowIfClosed();
        if (TryFind(sequence, out BlockTable table)) return table;
        throw new ArgumentException(
            sequence.Generation == 0
                ? "The handle is default(CacheSequence), which names no sequence: CreateSequence or Fork makes one."
                : $"The handle names {sequence}, which is not in this cache: it was freed, or belongs to another cache.",
            nameof(sequence));
    }

    private void ThrowIfClosed() => ObjectDisposedException.ThrowIf(_closed, _owner);
}
