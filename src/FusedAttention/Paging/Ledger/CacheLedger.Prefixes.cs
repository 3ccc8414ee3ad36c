namespace FusedAttention.Paging.Ledger;

/// <content>Prompts that begin alike.</content>
internal sealed partial class CacheLedger
{
    /// <summary>How often prefixes were forgotten, from 1 on.</summary>
    private long _epoch = 1;

    /// <summary>The version in which they were forgotten last.</summary>
    private long _forgottenAt;

    /// <summary>A sequence that starts with as many full blocks as are known to hold the first of these tokens.</summary>
    public CacheSequence Create(ReadOnlySpan<int> tokens, out int cachedTokens)
    {
        using (Enter())
        {
            ThrowIfClosed();
            CacheSequence sequence = NewSequence(out BlockTable table, tokens.Length / BlockSize);
            int parent = PrefixIndex.Root;
            for (ReadOnlySpan<int> rest = tokens; rest.Length >= BlockSize; rest = rest[BlockSize..])
            {
                int block = _prefixes.Find(parent, rest[..BlockSize]);
                if (block < 0) break;
                _pool.Share(block);
                table.Add(block);
                parent = block;
            }

            if (table.Count > 0) _version++;
            cachedTokens = table.Length = table.Count * BlockSize;
            table.Freshness.Start(_epoch, table.Length);
            return sequence;
        }
    }

    /// <summary>Makes the sequence's full blocks findable by the tokens they were computed from, as far as they were computed since prefixes were forgotten.</summary>
    public void Publish(CacheSequence sequence, ReadOnlySpan<int> tokens)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            if (tokens.Length > table.Length)
                throw new ArgumentException($"{tokens.Length} tokens were given, but {sequence} has only {table.Length}.", nameof(tokens));

            int blocks = tokens.Length / BlockSize;
            for (int i = 0; i < blocks; i++)
            {
                int block = table[i];
                if (block != BlockTable.Dropped && _prefixes.Contains(block) && !_prefixes.Tokens(block).SequenceEqual(tokens.Slice(i * BlockSize, BlockSize)))
                    throw new ArgumentException($"The tokens from position {i * BlockSize} on are not those that this block of {sequence} was published with.", nameof(tokens));
            }

            blocks = Math.Min(blocks, table.Freshness.Tokens(_epoch) / BlockSize);
            int parent = PrefixIndex.Root;
            for (int i = 0; i < blocks; i++)
            {
                ReadOnlySpan<int> own = tokens.Slice(i * BlockSize, BlockSize);
                int known = _prefixes.Find(parent, own);
                if (known < 0)
                {
                    known = table[i];
                    if (known == BlockTable.Dropped) return;

                    // A block that already follows some other prefix: that one may have been given up in part while this sequence held its own copy of it, so this one counts. It gets a new
                    // entry, because whoever followed the old entry does not follow the new one.
                    if (_prefixes.Contains(known)) _prefixes.Remove(known);
                    _prefixes.Insert(known, parent, own);
                    _version++;
                    BlocksAreReleased();
                }

                parent = known;
            }
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
            _epoch++;
            _forgottenAt = ++_version;
        }
    }

    /// <summary>Blocks whose contents can be found by their tokens, for tests.</summary>
    internal bool IsPublished(int block)
    {
        using (Enter()) return _prefixes.Contains(block);
    }
}
