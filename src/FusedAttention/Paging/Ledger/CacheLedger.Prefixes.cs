namespace FusedAttention.Paging.Ledger;

/// <content>Prompts that begin alike.</content>
internal sealed partial class CacheLedger
{
    /// <summary>How often prefixes were forgotten, from 1 on.</summary>
    private long _epoch = 1;

    /// <summary>The version in which they were forgotten last.</summary>
    private long _forgottenAt;

    /// <summary>The blocks of the last look-up.</summary>
    private readonly PrefixWalk _walk = new();

    /// <summary>Keys of tokens that came without.</summary>
    private ulong[] _keys = [];

    private long _lastLookUp;

    /// <summary>Somebody looks for prefixes by what a window reads, so a block is worth keeping though what came before it is gone.</summary>
    private bool _hasWindows;

    /// <summary>How often prefixes were forgotten.</summary>
    public long Epoch => Volatile.Read(ref _epoch);

    /// <summary>A sequence that starts with as many full blocks as are known to hold the first of these tokens.</summary>
    /// <param name="tokens">The tokens.</param>
    /// <param name="cachedTokens">How many tokens the sequence has.</param>
    /// <param name="identity">What keys and values depend on beside tokens.</param>
    /// <param name="window">How many tokens a query reads, its own included; 0 for all.</param>
    public CacheSequence Create(ReadOnlySpan<int> tokens, out int cachedTokens, UInt128 identity = default, int window = 0)
    {
        using (Enter())
        {
            ThrowIfClosed();
            TokenPrefix prefix = WithKeys(tokens, identity);
            PrefixMatch match = FindPrefix(prefix, window, partial: false);
            cachedTokens = match.Tokens;
            return CreateFrom(prefix, match);
        }
    }

    /// <summary>How much of these tokens is in the cache. Nothing changes.</summary>
    /// <param name="prefix">The tokens.</param>
    /// <param name="window">How many tokens a query reads, its own included; 0 for all.</param>
    /// <param name="partial">Whether the beginning of a block is of use.</param>
    public PrefixMatch Match(in TokenPrefix prefix, int window, bool partial)
    {
        using (Enter())
        {
            ThrowIfClosed();
            return FindPrefix(prefix, window, partial);
        }
    }

    /// <summary>A sequence that starts with what a match has found, or with what is left of it.</summary>
    /// <param name="prefix">The tokens that were looked for.</param>
    /// <param name="window">As it was then.</param>
    /// <param name="partial">As it was then.</param>
    /// <param name="match">What was found; brought up to date: others may have been here since, or there is no block for the beginning of one.</param>
    public CacheSequence Create(in TokenPrefix prefix, int window, bool partial, ref PrefixMatch match)
    {
        using (Enter())
        {
            ThrowIfClosed();
            if (match.LookUp != _lastLookUp || match.IndexVersion != _prefixes.Version) match = FindPrefix(prefix, window, partial);
            CacheSequence sequence = CreateFrom(prefix, match);
            match = match with { Tokens = Find(sequence).Length };
            return sequence;
        }
    }

    /// <summary>Makes the sequence's full blocks findable by the tokens they were computed from, as far as they were computed since prefixes were forgotten.</summary>
    public void Publish(CacheSequence sequence, ReadOnlySpan<int> tokens, UInt128 identity = default)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            if (tokens.Length > table.Length)
                throw new ArgumentException($"{tokens.Length} tokens were given, but {sequence} has only {table.Length}.", nameof(tokens));
            int other = FirstOtherBlock(table, tokens);
            if (other >= 0)
                throw new ArgumentException($"The tokens from position {other * BlockSize} on are not those that this block of {sequence} was published with.", nameof(tokens));
            table.Published = default;
            Publish(table, WithKeys(tokens, identity), withPartial: false);
        }
    }

    /// <summary>Does the same for somebody who publishes again and again: it costs what has come since the last time.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="prefix">Its first tokens.</param>
    /// <param name="withPartial">Whether a last block that is not full can be found too.</param>
    /// <returns>False if the sequence is not there, or was published by somebody else with other tokens.</returns>
    public bool TryPublish(CacheSequence sequence, in TokenPrefix prefix, bool withPartial)
    {
        using (Enter())
        {
            if (!TryFind(sequence, out BlockTable table) || prefix.Tokens.Length > table.Length) return false;
            bool goesOn = table.Published.Blocks > 0 && table.Published.Blocks <= prefix.Tokens.Length / BlockSize && prefix.Keys[table.Published.Blocks - 1] == table.Published.Key;
            if (!goesOn && FirstOtherBlock(table, prefix.Tokens) >= 0) return false;
            Publish(table, prefix, withPartial);
            return true;
        }
    }

    /// <summary>Forgets every published prefix, and that any token in the cache was computed from nothing but tokens.</summary>
    public void ForgetPrefixes()
    {
        using (Enter())
        {
            ThrowIfClosed();
            _prefixes.Clear();
            _pool.FreeKept();
            Volatile.Write(ref _epoch, _epoch + 1);
            _forgottenAt = ++_version;
        }
    }

    /// <summary>How often a block was looked for by its tokens, for tests of what that costs.</summary>
    internal long PrefixLookUps => _prefixes.LookUps;

    /// <summary>Blocks whose contents can be found by their tokens, for tests.</summary>
    internal bool IsPublished(int block)
    {
        using (Enter()) return _prefixes.Contains(block);
    }

    private TokenPrefix WithKeys(ReadOnlySpan<int> tokens, UInt128 identity)
    {
        int blocks = tokens.Length / BlockSize;
        if (blocks > _keys.Length) Array.Resize(ref _keys, Math.Max(blocks, 2 * _keys.Length));
        ulong key = PrefixKey.Start(identity);
        for (int i = 0; i < blocks; i++) _keys[i] = key = PrefixKey.Next(key, tokens.Slice(i * BlockSize, BlockSize));
        return new(tokens, _keys, identity);
    }

    private PrefixMatch FindPrefix(in TokenPrefix prefix, int window, bool partial)
    {
        _hasWindows |= window > 0;
        int first = window > 0 ? FindLastBlocks(prefix, window) : FindFirstBlocks(prefix);
        int blocks = _walk.Count, revived = 0;
        foreach (int block in _walk.Blocks[first..]) revived += _pool.Owners(block) == 0 ? 1 : 0;

        int beginning = -1, common = 0;
        ReadOnlySpan<int> rest = prefix.Tokens[(blocks * BlockSize)..];
        if (partial && !rest.IsEmpty)
        {
            long parent = blocks > 0 ? _prefixes.SerialOf(_walk.Blocks[^1]) : PrefixIndex.Root;
            beginning = _prefixes.FindBeginning(parent, prefix.Identity, rest, out common);

            // A copy has its price, on a device above all: a start token that all prompts have is not worth one.
            if (4 * common < BlockSize && common < rest.Length) (beginning, common) = (-1, 0);
        }

        return new()
        {
            FirstBlock = first,
            Blocks = blocks,
            PartialBlock = beginning,
            PartialTokens = common,
            Revived = revived,
            Tokens = (blocks * BlockSize) + common,
            LookUp = ++_lastLookUp,
            IndexVersion = _prefixes.Version,
        };
    }

    /// <summary>Block after block from the first on.</summary>
    /// <returns>The first block that is needed: 0.</returns>
    private int FindFirstBlocks(in TokenPrefix prefix)
    {
        _walk.Begin(prefix, BlockSize, _prefixes.Removals);
        long parent = _walk.Count > 0 ? _prefixes.SerialOf(_walk.Blocks[^1]) : PrefixIndex.Root;
        for (int i = _walk.Count; i < prefix.Tokens.Length / BlockSize; i++)
        {
            ReadOnlySpan<int> own = prefix.Tokens.Slice(i * BlockSize, BlockSize);
            int block = _prefixes.Find(parent, prefix.Identity, prefix.Keys[i], own);
            if (block < 0) break;
            _walk.Add(block, own);
            parent = _prefixes.SerialOf(block);
        }

        return 0;
    }

    /// <summary>The longest prefix whose end is there, as far back as a window reads from the token that follows.</summary>
    /// <returns>The first block that is needed.</returns>
    private int FindLastBlocks(in TokenPrefix prefix, int window)
    {
        int end = prefix.Tokens.Length / BlockSize;
        Span<int> found = _walk.BeginAnywhere(end);
        while (true)
        {
            int first = (int)(Math.Max(0, ((long)end * BlockSize) - window + 1) / BlockSize), i = end - 1;
            for (; i >= first; i--)
            {
                found[i] = _prefixes.FindAlone(prefix.Keys[i], prefix.Tokens.Slice(i * BlockSize, BlockSize));
                if (found[i] < 0) break;
            }

            if (i < first)
            {
                _walk.Cut(end);
                return Math.Min(first, end);
            }

            end = i;
        }
    }

    private CacheSequence CreateFrom(in TokenPrefix prefix, in PrefixMatch match)
    {
        // The rest will follow, and some more.
        CacheSequence sequence = NewSequence(out BlockTable table, match.Tokens == 0 ? 0 : (prefix.Tokens.Length / BlockSize) + 8);
        for (int i = 0; i < match.FirstBlock; i++) table.Add(BlockTable.Dropped);
        ReadOnlySpan<int> shared = _walk.Blocks[match.FirstBlock..];
        foreach (int block in shared) _pool.Share(block);
        table.AddRange(shared);
        table.DroppedBlocks = match.FirstBlock;
        table.Length = match.Blocks * BlockSize;
        if (table.Count > 0) _version++;
        if (match.Blocks > 0)
        {
            int last = _walk.Blocks[^1];
            table.Published = new() { Blocks = match.Blocks, Key = prefix.Keys[match.Blocks - 1], Last = last, LastSerial = _prefixes.SerialOf(last), Foreign = -1, Epoch = _epoch };
        }

        if (match.PartialTokens > 0 && _pool.Available > 0) CopyBeginning(sequence, table, match);
        table.Freshness.Start(_epoch, table.Length);
        return sequence;
    }

    private void CopyBeginning(CacheSequence sequence, BlockTable table, in PrefixMatch match)
    {
        // If no other block is left, the pool may hand out this very one.
        int copy = Take();
        try
        {
            if (copy != match.PartialBlock) _storage.CopyBlock(match.PartialBlock, copy, match.PartialTokens);
        }
        catch
        {
            _pool.Release(copy, keep: false);
            Free(sequence.Id, table);
            throw;
        }

        table.Add(copy);
        table.Length += match.PartialTokens;
    }

    /// <summary>The first block of a sequence that was published with other tokens; -1 if there is none.</summary>
    private int FirstOtherBlock(BlockTable table, ReadOnlySpan<int> tokens)
    {
        int blocks = tokens.Length / BlockSize;
        for (int i = 0; i < blocks; i++)
        {
            int block = table[i];
            if (block != BlockTable.Dropped && _prefixes.Contains(block) && !tokens[(i * BlockSize)..].StartsWith(_prefixes.Tokens(block))) return i;
        }

        return -1;
    }

    private void Publish(BlockTable table, in TokenPrefix prefix, bool withPartial)
    {
        int tokens = Math.Min(prefix.Tokens.Length, table.Freshness.Tokens(_epoch));
        int blocks = tokens / BlockSize;
        PublishedPrefix known = table.Published;
        if (known.Blocks > blocks || !CanGoOn(table, prefix)) known = new() { Epoch = _epoch, Foreign = -1 };
        bool isNew = false;
        for (int i = known.Blocks; i < blocks; i++)
        {
            ReadOnlySpan<int> own = prefix.Tokens.Slice(i * BlockSize, BlockSize);
            int block = _prefixes.Find(known.LastSerial, prefix.Identity, prefix.Keys[i], own);
            if (block < 0)
            {
                block = table[i];
                if (block == BlockTable.Dropped)
                {
                    // What follows can be found by a window that reads nothing of this one, and by nobody else.
                    if (!_hasWindows) break;
                    known.LastSerial = _prefixes.NewSerial();
                    continue;
                }

                // A block that already follows some other prefix: that one may have been given up in part while this sequence held its own copy of it, so this one counts. It gets a new
                // entry, because whoever followed the old entry does not follow the new one. Or it was found by its beginning until now, and is full.
                if (_prefixes.Contains(block)) _prefixes.Remove(block);
                _prefixes.Insert(block, known.Last, known.LastSerial, prefix.Identity, prefix.Keys[i], own, isFull: true);
                isNew = true;
            }

            known.Blocks = i + 1;
            known.Key = prefix.Keys[i];
            known.Last = block;
            known.LastSerial = _prefixes.SerialOf(block);
            if (block != table[i]) (known.Foreign, known.ForeignSerial) = (block, known.LastSerial);
        }

        table.Published = known;
        if (withPartial && known.Blocks == blocks) isNew |= PublishBeginning(table, prefix, known, tokens - (blocks * BlockSize));
        if (!isNew) return;
        _version++;
        BlocksAreReleased();
    }

    /// <summary>Whether what was published of a sequence is still what these tokens continue.</summary>
    private bool CanGoOn(BlockTable table, in TokenPrefix prefix)
    {
        ref readonly PublishedPrefix known = ref table.Published;
        if (known.Blocks == 0 || known.Epoch != _epoch || prefix.Keys[known.Blocks - 1] != known.Key) return false;

        // With a window, what lies before it may be gone, and need not be there to be followed.
        if (table.DroppedBlocks > 0) return true;
        return _prefixes.SerialOf(known.Last) == known.LastSerial && (known.Foreign < 0 || _prefixes.SerialOf(known.Foreign) == known.ForeignSerial);
    }

    private bool PublishBeginning(BlockTable table, in TokenPrefix prefix, in PublishedPrefix before, int count)
    {
        if (count == 0) return false;
        int block = table[before.Blocks];
        if (block == BlockTable.Dropped) return false;
        ReadOnlySpan<int> own = prefix.Tokens.Slice(before.Blocks * BlockSize, count);
        _prefixes.FindBeginning(before.LastSerial, prefix.Identity, own, out int common);
        if (common == count) return false;
        if (_prefixes.Contains(block)) _prefixes.Remove(block);
        _prefixes.Insert(block, before.Last, before.LastSerial, prefix.Identity, key: 0, own, isFull: false);
        return true;
    }
}
