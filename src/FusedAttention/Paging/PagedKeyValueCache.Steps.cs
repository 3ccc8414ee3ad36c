using FusedAttention.Problems;

namespace FusedAttention;

/// <content>What one step of a model does to many sequences at once.</content>
public unsafe partial class PagedKeyValueCache<T>
{
    /// <summary>
    /// Adds slots for more tokens to several sequences, to all of them or to none. Their contents are undefined until <c>Write</c> has filled them in every layer that is read.
    /// </summary>
    /// <param name="sequences">The sequences, each once.</param>
    /// <param name="tokens">How many tokens each of them gets; 0 or more.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for all; nothing was changed. Sequences that share a partial last block each count a copy of it.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A number is negative, or a sequence would pass 2^31 - 1 tokens.</exception>
    /// <exception cref="ArgumentException">The spans differ in length, or a handle is stale or named twice.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Extend(ReadOnlySpan<CacheSequence> sequences, ReadOnlySpan<int> tokens) => _ledger.Extend(sequences, tokens);

    /// <summary>
    /// Writes one layer's keys and values of a whole batch: row <c>r</c> goes where row <c>r</c> of the batch's queries stands, so that <c>ForwardPaged</c> can follow with the same batch.
    /// Shared blocks are copied first, as by the other <c>Write</c>.
    /// </summary>
    /// <param name="layer">From 0 to Layers - 1.</param>
    /// <param name="batch">Sequences of this cache, each added with the query tokens that are its last ones.</param>
    /// <param name="keys">batch.TotalQueries x KeyValueHeads x KeyDim elements.</param>
    /// <param name="values">batch.TotalQueries x KeyValueHeads x ValueDim elements.</param>
    /// <exception cref="OutOfBlocksException">There are not enough free blocks for the copies; sequences before the one that failed are written.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such layer, or a sequence of the batch has become shorter, or has dropped these tokens.</exception>
    /// <exception cref="ArgumentException">A length is not as described, or the batch is another cache's, or a handle in it is stale.</exception>
    /// <exception cref="ObjectDisposedException">The cache is disposed.</exception>
    public void Write(int layer, PagedBatch batch, ReadOnlySpan<T> keys, ReadOnlySpan<T> values)
    {
        CheckLayer(layer);
        CheckBatch(batch, CheckRows(keys, values));
        int keyWidth = Options.KeyValueHeads * Options.KeyDim, valueWidth = Options.KeyValueHeads * Options.ValueDim;
        PagedSequences sequences = batch.Sequences;
        fixed (T* firstKey = keys)
        fixed (T* firstValue = values)
        {
            for (int i = 0; i < batch.Count; i++)
            {
                int row = sequences.CumulativeQueryLengths[i];
                int count = sequences.CumulativeQueryLengths[i + 1] - row;
                int position = sequences.ContextLengths[i] - count;
                CacheSequence sequence = batch.Handles[i];
                _ledger.PrepareWrite(sequence, position, count);
                Store(
                    layer, sequence, position, count,
                    new(firstKey + ((long)row * keyWidth), Options.KeyValueHeads, Options.KeyDim),
                    new(firstValue + ((long)row * valueWidth), Options.KeyValueHeads, Options.ValueDim));
            }
        }
    }

    private protected void CheckBatch(PagedBatch batch, int tokens)
    {
        ArgumentNullException.ThrowIfNull(batch);
        if (batch.Ledger != _ledger) throw new ArgumentException("The batch was made by another cache.", nameof(batch));
        if (tokens != batch.TotalQueries) ArgumentChecks.Throw($"keys has {tokens} tokens, but the batch has {batch.TotalQueries} query tokens.", "keys");
    }
}
