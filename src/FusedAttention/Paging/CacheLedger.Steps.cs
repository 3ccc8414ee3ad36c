namespace FusedAttention.Paging;

internal sealed partial class CacheLedger
{
    private long _lastExtension;

    /// <summary>Adds slots to several sequences, to all of them or to none.</summary>
    public void Extend(ReadOnlySpan<CacheSequence> sequences, ReadOnlySpan<int> tokens)
    {
        if (sequences.Length != tokens.Length)
            throw new ArgumentException($"There are {sequences.Length} sequences and {tokens.Length} numbers of tokens; each sequence needs one.", nameof(tokens));
        lock (_gate)
        {
            ThrowIfClosed();
            long needed = 0;
            long call = ++_lastExtension;
            for (int i = 0; i < sequences.Length; i++)
            {
                BlockTable table = Find(sequences[i]);
                if (table.LastExtension == call) throw new ArgumentException($"{sequences[i]} is named twice.", nameof(sequences));
                table.LastExtension = call;
                if (tokens[i] < 0 || tokens[i] > int.MaxValue - table.Length)
                    throw new ArgumentOutOfRangeException(nameof(tokens), tokens[i], $"{sequences[i]} has {table.Length} tokens; it can be extended by 0 to {int.MaxValue - table.Length}.");
                needed += BlocksNeeded(table, tokens[i]);

                // Memory for the tables comes first, so that nothing can fail once blocks are handed out.
                table.EnsureCapacity(BlocksFor(table.Length + tokens[i]));
            }

            ThrowIfFewerThan((int)Math.Min(int.MaxValue, needed));
            for (int i = 0; i < sequences.Length; i++) Extend(Find(sequences[i]), tokens[i]);
        }
    }

    /// <summary>Adds slots; the caller has seen that there are enough blocks.</summary>
    private void Extend(BlockTable table, int tokens)
    {
        if (tokens == 0) return;
        int start = table.Length;
        int blocks = BlocksFor(start + tokens);
        if (start % BlockSize != 0) MakeWritable(table, start / BlockSize);
        while (table.Count < blocks) table.Add(Take());
        table.Length = start + tokens;
    }
}
