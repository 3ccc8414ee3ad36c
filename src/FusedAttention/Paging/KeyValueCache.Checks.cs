using FusedAttention.Paging.Ledger;
using FusedAttention.Problems;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <content>What every kind of cache asks of its arguments.</content>
public abstract partial class KeyValueCache
{
    private protected void CheckLayer(int layer)
    {
        ObjectDisposedException.ThrowIf(_ledger.IsClosed, this);
        if ((uint)layer >= (uint)Options.Layers)
            throw new ArgumentOutOfRangeException(nameof(layer), layer, $"The cache has {Options.Layers} {(Options.Layers == 1 ? "layer" : "layers")}; layer must be from 0 to {Options.Layers - 1}.");
    }

    private protected void ThrowIfManyLayers()
    {
        if (Options.Layers > 1)
            throw new InvalidOperationException($"Append is for caches with one layer, and this one has {Options.Layers}: call Extend once, then Write for each layer.");
    }

    private protected void CheckBatch(PagedBatch batch)
    {
        ArgumentNullException.ThrowIfNull(batch);
        if (batch.Ledger != _ledger) throw new ArgumentException("The batch was made by another cache.", nameof(batch));
    }

    private protected static void CheckBatchRows(PagedBatch batch, int tokens)
    {
        if (tokens != batch.TotalQueries) ArgumentChecks.Throw($"keys has {tokens} tokens, but the batch has {batch.TotalQueries} query tokens.", "keys");
    }

    /// <summary>Checks what a call over a batch and a layer is given, and brings the batch up to date.</summary>
    internal void PrepareRead(int layer, PagedBatch batch)
    {
        CheckLayer(layer);
        CheckBatch(batch);
        batch.Refresh();
    }

    /// <summary>Checks what is written for a batch in one layer, and makes sure that nobody else sees the slots.</summary>
    private protected SlotRuns PrepareWrite(int layer, PagedBatch batch, int tokens)
    {
        CheckBatch(batch);
        CheckBatchRows(batch, tokens);
        batch.PrepareWrite(layer);
        return batch.Slots;
    }

    /// <returns>How many tokens there are.</returns>
    private protected int CheckRows(in TensorLayout keys, in TensorLayout values)
    {
        CheckRows(keys, Options.KeyDim, nameof(keys));
        CheckRows(values, Options.ValueDim, nameof(values));
        if (keys.Lengths[0] != values.Lengths[0])
            throw new ArgumentException($"values is {values} and keys is {keys}: both must have the same number of tokens.", nameof(values));
        return (int)keys.Lengths[0];
    }

    /// <summary>Checks packed rows by their numbers of elements.</summary>
    /// <returns>How many tokens there are.</returns>
    private protected int CheckRows(int keys, int values)
    {
        long keyWidth = (long)Options.KeyValueHeads * Options.KeyDim, valueWidth = (long)Options.KeyValueHeads * Options.ValueDim;
        long tokens = keys / keyWidth;
        if (tokens * keyWidth != keys)
            throw new ArgumentException($"keys has {keys} elements, which is not a multiple of KeyValueHeads x KeyDim = {Options.KeyValueHeads} x {Options.KeyDim}.", nameof(keys));
        if (tokens * valueWidth != values)
            throw new ArgumentException($"values has {values} elements, but must have {tokens} x {Options.KeyValueHeads} x {Options.ValueDim}, as keys has {tokens} tokens.", nameof(values));
        return (int)tokens;
    }

    private void CheckRotary(RotaryEmbedding? rotary, ReadOnlySpan<int> positions, int tokens)
    {
        if (rotary is null)
        {
            if (!positions.IsEmpty) throw new ArgumentException($"positions has {positions.Length} numbers, but there is no rotary embedding that they are for.", nameof(positions));
            return;
        }

        if (rotary.Options.HeadDim != Options.KeyDim)
            throw new ArgumentException($"rotary has HeadDim {rotary.Options.HeadDim}, but keys of this cache have {Options.KeyDim} elements.", nameof(rotary));
        if (!positions.IsEmpty && positions.Length != tokens)
            throw new ArgumentException($"positions has {positions.Length} numbers, but keys has {tokens} tokens.", nameof(positions));
    }

    private void CheckRows(in TensorLayout layout, int dim, string name)
    {
        if (layout.Rank != 3 || layout.Lengths[0] > int.MaxValue || layout.Lengths[1] != Options.KeyValueHeads || layout.Lengths[2] != dim)
            throw new ArgumentException($"{name} is {layout}, but must be [tokens, {Options.KeyValueHeads}, {dim}] for this cache.", name);
    }
}
