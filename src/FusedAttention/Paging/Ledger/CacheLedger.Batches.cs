namespace FusedAttention.Paging.Ledger;

/// <content>What a step of a model does with many sequences, layer after layer: asked once a step, and again only if the ledger's version says that the answer may be another one.</content>
internal sealed partial class CacheLedger
{
    /// <summary>Copies block tables and lengths of several sequences, behind those that a batch has.</summary>
    /// <param name="sequences">The sequences.</param>
    /// <param name="rows">Receives the tables.</param>
    /// <param name="firstRow">Rows that the batch has.</param>
    /// <param name="expected">Blocks that the rows must have room for in any case.</param>
    /// <param name="lengths">Receives the lengths.</param>
    /// <param name="longest">The blocks of the longest of these tables.</param>
    /// <param name="version">Receives the version that this is true of.</param>
    public void CopyTables(ReadOnlySpan<CacheSequence> sequences, TableRows rows, int firstRow, int expected, Span<int> lengths, out int longest, out long version)
    {
        using (Enter())
        {
            version = _version;
            longest = 0;
            foreach (CacheSequence sequence in sequences) longest = Math.Max(longest, Find(sequence).Count);
            rows.Fit(firstRow + sequences.Length, firstRow, Math.Max(expected, longest));
            for (int i = 0; i < sequences.Length; i++)
            {
                BlockTable table = Find(sequences[i]);
                lengths[i] = table.Length;
                rows.Copy(firstRow + i, table, table.Count, version);
            }
        }
    }

    /// <summary>Brings a batch's tables up to date.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="currentAt">The version that its tables are true of.</param>
    /// <exception cref="ArgumentException">A sequence was freed or shortened since it was added.</exception>
    public void Refresh(scoped in BatchTables batch, ref long currentAt)
    {
        using (Enter())
        {
            ThrowIfClosed();
            CopyContexts(batch, ref currentAt);
        }
    }

    /// <summary>Makes the blocks of a batch's rows the sequences' own, before they are written in one layer; and brings its tables up to date.</summary>
    /// <param name="batch">The batch.</param>
    /// <param name="layer">Which.</param>
    /// <param name="currentAt">The version that its tables are true of.</param>
    /// <param name="writableAt">The version in which its rows can be written.</param>
    /// <exception cref="ArgumentException">A sequence was freed or shortened since it was added, or is named twice.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A sequence has dropped what is to be written.</exception>
    public void PrepareWrite(scoped in BatchTables batch, int layer, ref long currentAt, ref long writableAt)
    {
        using (Enter())
        {
            ThrowIfClosed();
            if (writableAt == _version) return;
            CheckWrite(batch);
            bool rewrites = false;
            for (int i = 0; i < batch.Sequences.Length; i++)
            {
                int count = batch.RowsOf(i);
                if (count == 0) continue;
                BlockTable table = Find(batch, i);
                int position = batch.ContextLengths[i] - count;
                MakeWritable(table, position, count);

                // What was planned before prefixes were forgotten may have been computed before too.
                if (batch.AddedAt[i] >= _forgottenAt) rewrites |= table.Freshness.Rewrite(_epoch, table.Length, layer, _layers, position, count);
            }

            CopyContexts(batch, ref currentAt);

            // The other layers must be asked for too if they decide what is fresh.
            writableAt = rewrites ? 0 : _version;
        }
    }

    private void CheckWrite(scoped in BatchTables batch)
    {
        long call = ++_lastCall, shared = 0;
        for (int i = 0; i < batch.Sequences.Length; i++)
        {
            BlockTable table = Find(batch, i);
            int count = batch.RowsOf(i), position = batch.ContextLengths[i] - count;
            if (count == 0) continue;

            // Its rows would have the same places twice.
            if (table.LastCall == call) throw new ArgumentException($"The batch has {batch.Sequences[i]} twice, so its rows cannot be written.", nameof(batch));
            table.LastCall = call;
            CheckPositions(batch.Sequences[i], table, position, count);
            shared += SharedBlocks(table, position, count);
        }

        ThrowIfFewerThan((int)Math.Min(int.MaxValue, shared));
    }

    private BlockTable Find(scoped in BatchTables batch, int index)
    {
        CacheSequence sequence = batch.Sequences[index];
        bool isThere = TryFind(sequence, out BlockTable table);
        if (isThere && table.ShortenedAt <= batch.AddedAt[index]) return table;
        throw new ArgumentException($"The batch is out of date: {sequence} was {(isThere ? "shortened" : "freed")} since it was added. Clear the batch and add its sequences again.", nameof(batch));
    }

    private void CopyContexts(scoped in BatchTables batch, ref long currentAt)
    {
        if (currentAt == _version) return;
        for (int i = 0; i < batch.Sequences.Length; i++)
            batch.Rows.Copy(i, Find(batch, i), BlocksFor(batch.ContextLengths[i]), _version);
        currentAt = _version;
    }
}
