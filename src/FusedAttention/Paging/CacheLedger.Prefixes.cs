namespace FusedAttention.Paging;

internal sealed partial class CacheLedger
{
    /// <summary>Blocks whose contents can be found by their tokens, for tests.</summary>
    internal bool IsPublished(int block)
    {
        lock (_gate) return _prefixes.Contains(block);
    }

    /// <summary>A sequence that starts with as many full blocks as are known to hold the first of these tokens.</summary>
    public CacheSequence Create(ReadOnlySpan<int> tokens, out int cachedTokens)
    {
        lock (_gate)
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

            cachedTokens = table.Length = table.Count * BlockSize;
            return sequence;
        }
    }

    /// <summary>Makes the sequence's full blocks findable by the tokens they were computed from.</summary>
    public void Publish(CacheSequence sequence, ReadOnlySpan<int> tokens)
    {
        lock (_gate)
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
                }

                parent = known;
            }
        }
    }

    /// <summary>Forgets every published prefix.</summary>
    public void ForgetPrefixes()
    {
        lock (_gate)
        {
            ThrowIfClosed();
            _prefixes.Clear();
            _pool.FreeKept();
        }
    }
}
