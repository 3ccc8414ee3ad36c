namespace FusedAttention.Paging.Ledger;

/// <content>Adding tokens to sequences, and writing tokens that they have.</content>
internal sealed partial class CacheLedger
{
    /// <summary>How many blocks <see cref="Extend(CacheSequence, int, Span{int})"/> would take.</summary>
    public int GetBlocksNeeded(CacheSequence sequence, int tokens)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        using (Enter()) return BlocksNeeded(Find(sequence), tokens);
    }

    /// <summary>The same for somebody who believes that the sequence has a certain length.</summary>
    /// <returns>False if it has another one, or is not there.</returns>
    public bool TryGetBlocksNeeded(CacheSequence sequence, int length, int tokens, out int blocks)
    {
        using (Enter())
        {
            bool isThere = TryFind(sequence, out BlockTable table) && table.Length == length;
            blocks = isThere ? BlocksNeeded(table, tokens) : 0;
            return isThere;
        }
    }

    /// <summary>Whether the sequence is there and has this length.</summary>
    public bool HasLength(CacheSequence sequence, int length)
    {
        using (Enter())
        {
            ThrowIfClosed();
            return TryFind(sequence, out BlockTable table) && table.Length == length;
        }
    }

    /// <summary>Adds slots for more tokens, all or none, in blocks that no other sequence sees.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="tokens">How many.</param>
    /// <param name="firstBlocks">Receives the blocks of the new tokens, as many as it holds.</param>
    /// <returns>The position of the first new token.</returns>
    public int Extend(CacheSequence sequence, int tokens, Span<int> firstBlocks = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(tokens);
        using (Enter())
        {
            BlockTable table = Find(sequence);
            int start = table.Length;
            if (tokens > int.MaxValue - start)
                throw new ArgumentOutOfRangeException(nameof(tokens), tokens, $"{sequence} has {start} tokens; with {tokens} more it would pass the longest length, {int.MaxValue}.");
            if (tokens == 0) return start;

            ThrowIfFewerThan(BlocksNeeded(table, tokens));
            table.EnsureCapacity(BlocksFor(start + tokens));
            MakeLastWritable(table);
            Extend(table, tokens);
            CopyBlocks(table, start / BlockSize, firstBlocks);
            return start;
        }
    }

    /// <summary>Adds slots to several sequences, to all of them or to none.</summary>
    public void Extend(ReadOnlySpan<CacheSequence> sequences, ReadOnlySpan<int> tokens)
    {
        if (sequences.Length != tokens.Length)
            throw new ArgumentException($"There are {sequences.Length} sequences and {tokens.Length} numbers of tokens; each sequence needs one.", nameof(tokens));
        using (Enter())
        {
            ThrowIfClosed();
            long needed = 0;
            long call = ++_lastCall;
            for (int i = 0; i < sequences.Length; i++)
            {
                BlockTable table = Find(sequences[i]);
                if (table.LastCall == call) throw new ArgumentException($"{sequences[i]} is named twice.", nameof(sequences));
                table.LastCall = call;
                if (tokens[i] < 0 || tokens[i] > int.MaxValue - table.Length)
                    throw new ArgumentOutOfRangeException(nameof(tokens), tokens[i], $"{sequences[i]} has {table.Length} tokens; it can be extended by 0 to {int.MaxValue - table.Length}.");
                needed += BlocksNeeded(table, tokens[i]);

                // Memory for the tables comes first, so that nothing can fail once blocks are handed out.
                table.EnsureCapacity(BlocksFor(table.Length + tokens[i]));
            }

            ThrowIfFewerThan((int)Math.Min(int.MaxValue, needed));

            // A device may refuse to copy. A sequence that has a copy of its own by then is none the worse for it.
            for (int i = 0; i < sequences.Length; i++)
                if (tokens[i] > 0) MakeLastWritable(Find(sequences[i]));
            for (int i = 0; i < sequences.Length; i++) Extend(Find(sequences[i]), tokens[i]);
        }
    }

    /// <summary>Makes the blocks of these positions the sequence's own, before they are written again in one layer.</summary>
    /// <param name="sequence">The sequence.</param>
    /// <param name="layer">Which.</param>
    /// <param name="position">The first position.</param>
    /// <param name="tokens">How many.</param>
    /// <param name="firstBlocks">Receives the blocks of these positions, as many as it holds.</param>
    public void PrepareWrite(CacheSequence sequence, int layer, int position, int tokens, Span<int> firstBlocks)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            CheckPositions(sequence, table, position, tokens);
            if (tokens == 0) return;
            ThrowIfFewerThan(SharedBlocks(table, position, tokens));
            MakeWritable(table, position, tokens);
            table.Freshness.Rewrite(_epoch, table.Length, layer, _layers, position, tokens);
            CopyBlocks(table, position / BlockSize, firstBlocks);
        }
    }

    /// <summary>Copies further blocks of a write that is under way.</summary>
    public void CopyBlocks(CacheSequence sequence, int first, Span<int> destination)
    {
        using (Enter())
        {
            BlockTable table = Find(sequence);
            if (first < table.DroppedBlocks || first + destination.Length > table.Count)
                throw new InvalidOperationException($"{sequence} was changed by another thread while its tokens were being written.");
            CopyBlocks(table, first, destination);
        }
    }

    private static void CopyBlocks(BlockTable table, int first, Span<int> destination) =>
        table.Blocks.Slice(first, Math.Min(table.Count - first, destination.Length)).CopyTo(destination);

    private int BlocksNeeded(BlockTable table, int tokens)
    {
        if (tokens == 0) return 0;
        long added = (((long)table.Length + tokens + BlockSize - 1) / BlockSize) - table.Count;
        bool copies = table.Length % BlockSize != 0 && _pool.Owners(table[table.Count - 1]) > 1;
        return (int)Math.Min(int.MaxValue, added + (copies ? 1 : 0));
    }

    private void MakeLastWritable(BlockTable table)
    {
        int slot = table.Length % BlockSize;
        if (slot != 0) MakeBlockWritable(table, table.Count - 1, slot);
    }

    /// <summary>Adds slots; the caller has seen that there are enough blocks, and that the last one can be written.</summary>
    private void Extend(BlockTable table, int tokens)
    {
        int length = table.Length + tokens;
        int blocks = BlocksFor(length);
        while (table.Count < blocks) table.Add(Take());
        table.Freshness.Extend(_epoch, table.Length, length);
        table.Length = length;
    }

    private void CheckPositions(CacheSequence sequence, BlockTable table, int position, int tokens)
    {
        if (position < 0 || tokens > table.Length - position)
            throw new ArgumentOutOfRangeException(nameof(position), position, $"{sequence} has {table.Length} tokens; {tokens} at position {position} do not lie within them.");
        if (tokens > 0 && position / BlockSize < table.DroppedBlocks)
            throw new ArgumentOutOfRangeException(nameof(position), position, $"{sequence} has dropped its tokens before position {table.DroppedBlocks * BlockSize}; position {position} cannot be written.");
    }

    private int SharedBlocks(BlockTable table, int position, int tokens)
    {
        int shared = 0;
        foreach (int block in table.Blocks[(position / BlockSize)..BlocksFor(position + tokens)]) shared += _pool.Owners(block) > 1 ? 1 : 0;
        return shared;
    }

    private void MakeWritable(BlockTable table, int position, int tokens)
    {
        int first = position / BlockSize, end = BlocksFor(position + tokens);
        for (int i = first; i < end; i++) MakeBlockWritable(table, i, i == first ? position % BlockSize : 0);
    }
}
