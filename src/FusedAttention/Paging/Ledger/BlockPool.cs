namespace FusedAttention.Paging.Ledger;

/// <summary>
/// Which blocks of a fixed number are in use, by how many owners, and which one is handed out next. Knows nothing of what the blocks hold.
/// </summary>
/// <remarks>
/// A block is in one of three states: used (one owner or more), free (holds nothing: a stack, so that the block freed last, still warm in the processor's caches, is handed
/// out first), or kept (nobody's, but its contents may be wanted again: a list in order of release, oldest first out). Kept blocks count as available.
/// The order depends on the order of calls alone. Everything is O(1) and allocates nothing. Not thread-safe: the ledger's lock covers it.
/// </remarks>
internal sealed class BlockPool
{
    private const int None = -1;

    private readonly int[] _owners;
    private readonly int[] _next;       // of the free stack, or towards newer in the kept list
    private readonly int[] _previous;   // towards older in the kept list
    private int _free;
    private int _oldestKept = None;
    private int _newestKept = None;
    private int _used;
    private int _kept;

    public BlockPool(int blocks)
    {
        _owners = new int[blocks];
        _next = new int[blocks];
        _previous = new int[blocks];
        for (int block = 0; block < blocks; block++) _next[block] = block + 1 < blocks ? block + 1 : None;
        _free = blocks > 0 ? 0 : None;
    }

    public int Total => _owners.Length;

    /// <summary>Blocks that have an owner. May be read without the lock.</summary>
    public int Used => Volatile.Read(ref _used);

    /// <summary>Blocks without an owner whose contents are kept until the space is needed. May be read without the lock.</summary>
    public int Kept => Volatile.Read(ref _kept);

    /// <summary>Blocks that <see cref="Take"/> can hand out: the free and the kept ones. May be read without the lock.</summary>
    public int Available => Total - Used;

    public int Owners(int block) => _owners[block];

    /// <summary>Gives a block to a first owner; the caller has seen that one is <see cref="Available"/>.</summary>
    /// <param name="wasKept">True if the block's contents were kept until now and are lost.</param>
    public int Take(out bool wasKept)
    {
        int block = _free;
        wasKept = block == None;
        if (wasKept)
        {
            block = _oldestKept;
            if (block == None) throw new InvalidOperationException("The block pool is exhausted.");
            Unlink(block);
        }
        else
        {
            _free = _next[block];
        }

        _owners[block] = 1;
        Volatile.Write(ref _used, _used + 1);
        return block;
    }

    /// <summary>Adds an owner to a block that is used or kept.</summary>
    public void Share(int block)
    {
        if (_owners[block]++ > 0) return;
        Unlink(block);
        Volatile.Write(ref _used, _used + 1);
    }

    /// <summary>Takes an owner away; after the last one the block is free, or kept if <paramref name="keep"/> says so.</summary>
    public void Release(int block, bool keep)
    {
        if (--_owners[block] > 0) return;
        Volatile.Write(ref _used, _used - 1);
        if (!keep)
        {
            Push(block);
            return;
        }

        _previous[block] = _newestKept;
        _next[block] = None;
        if (_newestKept == None) _oldestKept = block;
        else _next[_newestKept] = block;
        _newestKept = block;
        Volatile.Write(ref _kept, _kept + 1);
    }

    /// <summary>Makes every kept block free.</summary>
    public void FreeKept()
    {
        while (_oldestKept is int block and not None)
        {
            Unlink(block);
            Push(block);
        }
    }

    private void Push(int block)
    {
        _next[block] = _free;
        _free = block;
    }

    private void Unlink(int block)
    {
        int older = _previous[block], newer = _next[block];
        if (older == None) _oldestKept = newer;
        else _next[older] = newer;
        if (newer == None) _newestKept = older;
        else _previous[newer] = older;
        Volatile.Write(ref _kept, _kept - 1);
    }
}
