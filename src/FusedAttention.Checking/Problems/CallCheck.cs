using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>What the user asked for cannot be done as asked; the message says what to change.</summary>
public sealed class UsageException(string message) : Exception(message);

/// <summary>
/// Checks a call before the oracle indexes its tensors. The library checks its own arguments; this says the same of the oracle's, in the words of files.
/// </summary>
public static class CallCheck
{
    public static void Check(CallInputs call)
    {
        CheckShapes(call);
        switch (call.Layout)
        {
            case SequenceLayout.Dense:
                CheckDense(call);
                break;
            case SequenceLayout.VariableLength:
                CheckCumulative(call.CumulativeQueryLengths, call.QueryLength, "query");
                CheckCumulative(call.CumulativeKeyLengths, call.KeyLength, "key");
                if (call.CumulativeKeyLengths.Length != call.CumulativeQueryLengths.Length)
                    throw new UsageException($"There are {call.CumulativeQueryLengths.Length} cumulative query lengths, but {call.CumulativeKeyLengths.Length} of keys.");
                break;
            default:
                CheckCumulative(call.CumulativeQueryLengths, call.QueryLength, "query");
                CheckBlocks(call);
                break;
        }

        CheckScale(call.KeyScale, call.Key);
        CheckScale(call.ValueScale, call.Value);
        int keys = MaxKeys(call);
        CheckBroadcast(call, call.Mask, keys);
        CheckBroadcast(call, call.Bias, keys);
        CheckPerHead(call.Options.AlibiSlopes.IsDefaultOrEmpty ? 0 : call.Options.AlibiSlopes.Length, call.Heads, "ALiBi slopes");
        CheckPerHead(call.Options.SinkLogits.IsDefaultOrEmpty ? 0 : call.Options.SinkLogits.Length, call.Heads, "sink logits");
    }

    private static void CheckShapes(CallInputs call)
    {
        (LoadedTensor q, LoadedTensor k, LoadedTensor v) = (call.Query, call.Key, call.Value);
        int queryRank = call.Layout == SequenceLayout.Dense ? k.Rank : 3;
        int keyRank = call.Layout switch { SequenceLayout.Dense => q.Rank, SequenceLayout.VariableLength => 3, _ => 4 };
        if (q.Rank is not (3 or 4) || q.Rank != queryRank || k.Rank != keyRank || v.Rank != keyRank)
            throw new UsageException($"Query, key and value must be of one rank, [queries, heads, dim] or [batch, queries, heads, dim]; these are {q}, {k} and {v}.");
        bool sameTokens = k.Shape.AsSpan()[..^1].SequenceEqual(v.Shape.AsSpan()[..^1]);
        bool sameBatch = call.Layout != SequenceLayout.Dense || q.Rank == 3 || q.Shape[0] == k.Shape[0];
        if (!sameTokens || !sameBatch || q.Shape[^1] != k.Shape[^1] * k.ElementType.Numbers())
            throw new UsageException($"Key and value must have the same tokens and heads, and query the same batch and dim as key; these are {q}, {k} and {v}.");
        if (call.KeyValueHeads < 1 || call.Heads < 1 || call.Heads % call.KeyValueHeads != 0)
            throw new UsageException($"{call.Heads} query heads are not a multiple of {call.KeyValueHeads} key/value heads: {q}, {k}.");
        if (call.KeyDim < 1 || call.ValueDim < 1) throw new UsageException($"A head has no elements: {q}, {v}.");
        if (k.ElementType != v.ElementType) throw new UsageException($"Key and value must be of one element type; these are {k} and {v}.");
    }

    private static void CheckDense(CallInputs call)
    {
        if (call.KeyLengths is not int[] lengths) return;
        if (lengths.Length != call.Batch) throw new UsageException($"There are {lengths.Length} key lengths for a batch of {call.Batch}.");
        foreach (int length in lengths)
        {
            if (length < 0 || length > call.KeyLength) throw new UsageException($"The key length {length} is not from 0 to {call.KeyLength}.");
        }
    }

    private static void CheckCumulative(int[] lengths, int total, string what)
    {
        if (lengths.Length == 0 || lengths[0] != 0 || lengths[^1] != total) throw new UsageException($"Cumulative {what} lengths must run from 0 to {total}.");
        for (int i = 1; i < lengths.Length; i++)
        {
            if (lengths[i] < lengths[i - 1]) throw new UsageException($"Cumulative {what} lengths fall from {lengths[i - 1]} to {lengths[i]} at {i}.");
        }
    }

    private static void CheckBlocks(CallInputs call)
    {
        int sequences = call.SequenceCount;
        if (call.ContextLengths.Length != sequences || call.BlockTables.Length != (long)sequences * call.MaxBlocksPerSequence)
            throw new UsageException($"{sequences} sequences need as many context lengths and rows of {call.MaxBlocksPerSequence} block ids; there are {call.ContextLengths.Length} and {call.BlockTables.Length} ids.");
        for (int s = 0; s < sequences; s++)
        {
            int keys = call.ContextLengths[s];
            if (keys < 0 || keys > (long)call.MaxBlocksPerSequence * call.BlockSize)
                throw new UsageException($"The context length {keys} of sequence {s} is not from 0 to {(long)call.MaxBlocksPerSequence * call.BlockSize}.");
            for (int key = 0; key < keys; key += call.BlockSize)
            {
                int block = call.BlockTables[(s * call.MaxBlocksPerSequence) + (key / call.BlockSize)];
                if (block < 0 || block >= call.Key.Shape[0]) throw new UsageException($"Block id {block} of sequence {s} is not from 0 to {call.Key.Shape[0] - 1}.");
            }
        }
    }

    private static int MaxKeys(CallInputs call)
    {
        if (call.Layout == SequenceLayout.Dense) return call.KeyLength;
        int keys = 0;
        for (int s = 0; s < call.SequenceCount; s++) keys = Math.Max(keys, call.Sequence(s).Keys);
        return keys;
    }

    private static void CheckBroadcast(CallInputs call, LoadedTensor? tensor, int keys)
    {
        if (tensor is null) return;
        long[] full = call.Layout == SequenceLayout.Dense ? [call.Batch, call.Heads, call.QueryLength, keys] : [call.Heads, call.QueryLength, keys];
        bool fits = tensor.Rank >= 1 && tensor.Rank <= full.Length && (call.Layout == SequenceLayout.Dense ? tensor.Shape[^1] == keys : tensor.Shape[^1] >= keys);
        for (int i = 2; fits && i <= tensor.Rank; i++) fits = tensor.Shape[^i] == 1 || tensor.Shape[^i] == full[^i];
        if (!fits) throw new UsageException($"{tensor} does not broadcast to {LoadedTensor.Describe(full)}: leading dimensions may be absent or 1, the last may not.");
    }

    private static void CheckScale(LoadedTensor? scale, LoadedTensor codes)
    {
        if (scale is null) return;
        if (scale.ElementType != TensorElementType.Float32) throw new UsageException($"The scales {scale} must be of F32.");
        bool fits = scale.Rank < codes.Rank;
        for (int i = 1; fits && i <= scale.Rank; i++) fits = scale.Shape[^i] == 1 || scale.Shape[^i] == codes.Shape[^(i + 1)];
        if (!fits) throw new UsageException($"{scale} does not broadcast to {codes} without its last dimension: leading dimensions may be absent or 1.");
    }

    private static void CheckPerHead(int count, int heads, string what)
    {
        if (count != 0 && count != heads) throw new UsageException($"There are {count} {what} for {heads} query heads.");
    }
}
