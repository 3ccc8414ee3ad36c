namespace FusedAttention.Paging;

/// <summary>
/// The bookkeeping of a paged cache apart from its contents: sequences, their block tables, owners of blocks, copy on write, prompt prefixes. Caches in host and in device
/// memory share it.
/// </summary>
/// <remarks>
/// One lock serialises all operations. An operation first finds out what it needs, throws if it cannot have it, and only then changes anything.
/// Blocks in use never move: a copy on write gives the writer a new block and leaves the old one to its other owners.
/// Nothing is allocated once the tables have reached their size.
/// </remarks>
internal sealed partial class CacheLedger
{
    private static long _lastGeneration;

    private readonly Lock _gate = new();
    private readonly BlockPool _pool;
    private readonly PrefixIndex _prefixes;
    private readonly IBlockStorage _storage;
    private readonly Stack<int> _unusedIds = new();
    private BlockTable[] _tables = [];
    private int _sequences;
    private bool _closed;

    /// <param name="blocks">Blocks in the pool.</param>
    /// <param name="blockSize">Tokens in a block.</param>
    /// <param name="storage">Holds the contents.</param>
    /// <param name="prefixBuckets">Buckets of the prefix index; 0 for as many as blocks.</param>
    public CacheLedger(int blocks, int blockSize, IBlockStorage storage, int prefixBuckets = 0)
    {
        BlockSize = blockSize;
        _storage = storage;
        _pool = new(blocks);
        _prefixes = new(blocks, prefixBuckets);
        CacheCensus.Add(this);
    }

    public int BlockSize { get; }

    public int TotalBlocks => _pool.Total;

    public int UsedBlocks => _pool.Used;

    public int AvailableBlocks => _pool.Available;

    public int KeptBlocks => _pool.Kept;

    public int Sequences => Volatile.Read(ref _sequences);

    /// <summary>Refuses all further operations.</summary>
    public void Close()
    {
        lock (_gate)
        {
            if (_closed) return;
            _closed = true;
        }

        CacheCensus.Remove(this);
    }

    public CacheSequence Create()
    {
        lock (_gate)
        {
            ThrowIfClosed();
            return NewSequence(out _);
        }
    }

    public bool Contains(CacheSequence sequence)
    {
        lock (_gate) return !_closed && TryFind(sequence, out _);
    }

    public int Length(CacheSequence sequence)
    {
        lock (_gate) return Find(sequence).Length;
    }

    /// <summary>The first position whose block was not dropped.</summary>
    public int FirstPosition(CacheSequence sequence)
    {
        lock (_gate) return Find(sequence).DroppedBlocks * BlockSize;
    }

    /// <summary>How many blocks <see cref="Extend(CacheSequence, int)"/> would take.</summary>
    public int BlocksNeeded(CacheSequence sequence, int tokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        lock (_gate) return BlocksNeeded(Find(sequence), tokens);
    }

    /// <summary>Adds slots for more tokens, all or none, in blocks that no other sequence sees.</summary>
    /// <returns>The position of the first new token.</returns>
    public int Extend(CacheSequence sequence, int tokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        lock (_gate)
        {
            BlockTable table = Find(sequence);
            int start = table.Length;
            if (tokens > int.MaxValue - start)
                throw new ArgumentOutOfRangeException(nameof(tokens), tokens, $"{sequence} has {start} tokens; with {tokens} more it would pass the longest length, {int.MaxValue}.");
            if (tokens == 0) return start;

            ThrowIfFewerThan(BlocksNeeded(table, tokens));
            table.EnsureCapacity(BlocksFor(start + tokens));
            Extend(table, tokens);
            return start;
        }
    }

    /// <summary>Makes the blocks of these positions the sequence's own, before they are written again.</summary>
    public void PrepareWrite(CacheSequence sequence, int position, int tokens)
    {
        lock (_gate)
        {
            BlockTable table = Find(sequence);
            if (position < 0 || tokens > table.Length - position)
                throw new ArgumentOutOfRangeException(nameof(position), position, $"{sequence} has {table.Length} tokens; {tokens} at position {position} do not lie within them.");
            if (tokens == 0) return;
            int first = position / BlockSize, last = (int)(((long)position + tokens - 1) / BlockSize);
            if (first < table.DroppedBlocks)
                throw new ArgumentOutOfRangeException(nameof(position), position, $"{sequence} has dropped its tokens before position {table.DroppedBlocks * BlockSize}; position {position} cannot be written.");

            int shared = 0;
            for (int i = first; i <= last; i++) shared += _pool.Owners(table[i]) > 1 ? 1 : 0;
            ThrowIfFewerThan(shared);
            for (int i = first; i <= last; i++) MakeWritable(table, i);
        }
    }

    /// <summary>A second sequence with the same tokens, in the same blocks.</summary>
    public CacheSequence Fork(CacheSequence sequence)
    {
        lock (_gate)
        {
            BlockTable source = Find(sequence);
            CacheSequence fork = NewSequence(out BlockTable table, source.Count);
            foreach (int block in source.Blocks)
            {
                if (block != BlockTable.Dropped) _pool.Share(block);
                table.Add(block);
            }

            table.Length = source.Length;
            table.DroppedBlocks = source.DroppedBlocks;
            return fork;
        }
    }

    /// <summary>Forgets the tokens from position <paramref name="length"/> on.</summary>
    public void Truncate(CacheSequence sequence, int length)
    {
        lock (_gate)
        {
            BlockTable table = Find(sequence);
            if (length < 0 || length > table.Length)
                throw new ArgumentOutOfRangeException(nameof(length), length, $"{sequence} has {table.Length} tokens; it cannot be truncated to {length}.");
            int firstPosition = table.DroppedBlocks * BlockSize;
            if (length > 0 && length < firstPosition)
                throw new ArgumentOutOfRangeException(nameof(length), length, $"{sequence} has dropped its tokens before position {firstPosition}; it can be truncated to 0 or to {firstPosition} and more, not to {length}.");

            int blocks = BlocksFor(length);
            while (table.Count > blocks) Release(table.RemoveLast());
            table.Length = length;
            if (length == 0) table.DroppedBlocks = 0;
        }
    }

    /// <summary>Gives back the blocks whose tokens all lie before <paramref name="position"/>.</summary>
    public void DropBefore(CacheSequence sequence, int position)
    {
        lock (_gate)
        {
            BlockTable table = Find(sequence);
            if (position < 0 || position > table.Length)
                throw new ArgumentOutOfRangeException(nameof(position), position, $"{sequence} has {table.Length} tokens; there is no position {position} to drop them before.");
            int blocks = position / BlockSize;
            for (int i = blocks - 1; i >= table.DroppedBlocks; i--)
            {
                Release(table[i]);
                table[i] = BlockTable.Dropped;
            }

            table.DroppedBlocks = Math.Max(table.DroppedBlocks, blocks);
        }
    }

    public void Free(CacheSequence sequence)
    {
        lock (_gate)
        {
            BlockTable table = Find(sequence);

            // From the end, so that of a kept prompt the last blocks are the first to be given up: the shorter a prefix, the likelier that it is asked for again.
            while (table.Count > 0) Release(table.RemoveLast());
            table.Reset();
            _unusedIds.Push(sequence.Id);
            Volatile.Write(ref _sequences, _sequences - 1);
        }
    }

    /// <summary>Copies the whole table and pads the rest of <paramref name="destination"/> with -1; copies nothing if it is too short.</summary>
    /// <returns>How many blocks the table has.</returns>
    public int CopyTable(CacheSequence sequence, Span<int> destination, out int length)
    {
        lock (_gate)
        {
            BlockTable table = Find(sequence);
            length = table.Length;
            if (table.Count > destination.Length) return table.Count;
            table.Blocks.CopyTo(destination);
            destination[table.Count..].Fill(BlockTable.Dropped);
            return table.Count;
        }
    }

    /// <summary>Copies blocks that are about to be written.</summary>
    public void CopyBlocks(CacheSequence sequence, int first, Span<int> destination)
    {
        lock (_gate)
        {
            BlockTable table = Find(sequence);
            if (first < table.DroppedBlocks || first + destination.Length > table.Count)
                throw new InvalidOperationException($"{sequence} was changed by another thread while its tokens were being written.");
            table.Blocks.Slice(first, destination.Length).CopyTo(destination);
        }
    }

    /// <summary>How many sequences own a block, for tests.</summary>
    internal int Owners(int block)
    {
        lock (_gate) return _pool.Owners(block);
    }

    private int BlocksFor(int tokens) => (int)(((long)tokens + BlockSize - 1) / BlockSize);

    private int BlocksNeeded(BlockTable table, int tokens)
    {
        if (tokens == 0) return 0;
        long added = (((long)table.Length + tokens + BlockSize - 1) / BlockSize) - table.Count;
        bool copies = table.Length % BlockSize != 0 && _pool.Owners(table[table.Count - 1]) > 1;
        return (int)Math.Min(int.MaxValue, added + (copies ? 1 : 0));
    }

    private void ThrowIfFewerThan(int needed)
    {
        if (needed > _pool.Available) throw new OutOfBlocksException(needed, _pool.Available, _pool.Total);
    }

    /// <summary>Copies the block if others see it too, and takes it out of the prefix index, since it will no longer hold what the index says.</summary>
    private void MakeWritable(BlockTable table, int index)
    {
        int block = table[index];
        if (_pool.Owners(block) == 1)
        {
            if (_prefixes.Contains(block)) _prefixes.Remove(block);
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
            keep = _prefixes.HasParent(block);
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
        return table is not null && sequence.Generation != 0 && table.Generation == sequence.Generation;
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

    private void ThrowIfClosed()
    {
        ObjectDisposedException.ThrowIf(_closed, typeof(PagedKeyValueCache<>));
    }
}
