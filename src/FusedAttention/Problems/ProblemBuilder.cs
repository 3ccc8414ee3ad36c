namespace FusedAttention.Problems;

/// <summary>
/// Turns a call into an <see cref="AttentionProblem"/>: all validation and all resolving of semantics happens here, before anything is written.
/// One method a layout; what the layouts share is in the other part of this class.
/// </summary>
internal static unsafe partial class ProblemBuilder
{
    /// <summary>query [batch, queries, heads, dim], key and value [batch, keys, kvHeads, dim], each of rank 4, or all of rank 3 without the batch.</summary>
    public static void Dense(AttentionProblem problem, in CallTensors call, AttentionOptions options, scoped in AttentionOperands operands)
    {
        int rank = call.Query.Layout.Rank;
        if (rank is not (3 or 4))
        {
            ArgumentChecks.Throw($"query has shape {call.Query.Layout}; expected [batch, queries, heads, dim] or [queries, heads, dim].", "query");
        }

        CallTensors tensors = CheckTensors(call, rank == 4 ? ShapeNames.Batched : ShapeNames.Single);
        long sequences = tensors.Query.Layout.Lengths[0];
        ArgumentChecks.Length(tensors.Key.Layout, call.Key.Name, 0, sequences, "query's batch");
        ArgumentChecks.Length(tensors.Value.Layout, call.Value.Name, 0, sequences, "query's batch");
        ArgumentChecks.Length(tensors.Output.Layout, "output", 0, sequences, "query's batch");
        ArgumentChecks.Length(tensors.Output.Layout, "output", 1, tensors.Query.Layout.Lengths[1], "query's length");
        ArgumentChecks.Length(tensors.Value.Layout, call.Value.Name, 1, tensors.Key.Layout.Lengths[1], "key's length");

        int batchRows = (int)sequences;
        int queries = (int)tensors.Query.Layout.Lengths[1];
        int keys = (int)tensors.Key.Layout.Lengths[1];
        ReadOnlySpan<int> keyLengths = operands.KeyLengths;
        if (!keyLengths.IsEmpty && keyLengths.Length != batchRows)
        {
            ArgumentChecks.Throw($"KeyLengths has {keyLengths.Length} entries for a batch of {batchRows}.", "operands");
        }

        SetTensors(problem, tensors);
        SetScales(problem, tensors, rank - 1);
        problem.SetSequenceCount(batchRows);
        for (int b = 0; b < batchRows; b++)
        {
            int keyLength = keyLengths.IsEmpty ? keys : keyLengths[b];
            if ((uint)keyLength > (uint)keys) ArgumentChecks.Throw($"KeyLengths[{b}] is {keyLength}; expected 0 to {keys}, the key length.", "operands");
            ref SequenceProblem sequence = ref problem.Sequences[b];
            sequence.QueryLength = queries;
            sequence.KeyLength = keyLength;
            sequence.QueryStart = b * tensors.Query.Layout.Strides[0];
            sequence.OutputStart = b * tensors.Output.Layout.Strides[0];
            sequence.KeyStart = b * tensors.Key.Layout.Strides[0];
            sequence.ValueStart = b * tensors.Value.Layout.Strides[0];
            sequence.KeyScaleStart = b * problem.KeyScale.BlockStride;
            sequence.ValueScaleStart = b * problem.ValueScale.BlockStride;
        }

        SetSemantics(problem, options, operands);
        SetScoreTensors(problem, tensors, rank, queries, keys, exactKeys: true);
        CheckOverlaps(tensors);
    }

    /// <summary>query [total queries, heads, dim], key and value [total keys, kvHeads, dim].</summary>
    public static void Packed(
        AttentionProblem problem, in CallTensors call, ReadOnlySpan<int> cumulativeQueries, ReadOnlySpan<int> cumulativeKeys,
        AttentionOptions options, scoped in AttentionOperands operands)
    {
        CallTensors tensors = CheckTensors(call, ShapeNames.Packed);
        ArgumentChecks.Length(tensors.Output.Layout, "output", 1, tensors.Query.Layout.Lengths[1], "query's length");
        ArgumentChecks.Length(tensors.Value.Layout, call.Value.Name, 1, tensors.Key.Layout.Lengths[1], "key's length");
        RefuseKeyLengths(operands, "cumulativeKeyLengths");
        CheckCumulative(cumulativeQueries, "cumulativeQueryLengths", tensors.Query.Layout.Lengths[1], "query's length");
        CheckCumulative(cumulativeKeys, "cumulativeKeyLengths", tensors.Key.Layout.Lengths[1], "key's length");
        if (cumulativeKeys.Length != cumulativeQueries.Length)
        {
            ArgumentChecks.Throw(
                $"cumulativeKeyLengths has {cumulativeKeys.Length} entries and cumulativeQueryLengths {cumulativeQueries.Length}; both need one more than there are sequences.",
                "cumulativeKeyLengths");
        }

        SetTensors(problem, tensors);
        SetScales(problem, tensors, rank: 2);
        problem.SetSequenceCount(cumulativeQueries.Length - 1);
        int maxKeys = 0;
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref SequenceProblem sequence = ref problem.Sequences[s];
            SetPackedQueries(ref sequence, tensors, cumulativeQueries, s);
            sequence.KeyLength = cumulativeKeys[s + 1] - cumulativeKeys[s];
            sequence.KeyStart = cumulativeKeys[s] * tensors.Key.Layout.Strides[1];
            sequence.ValueStart = cumulativeKeys[s] * tensors.Value.Layout.Strides[1];
            sequence.KeyScaleStart = cumulativeKeys[s] * problem.KeyScale.TokenStride;
            sequence.ValueScaleStart = cumulativeKeys[s] * problem.ValueScale.TokenStride;
            maxKeys = Math.Max(maxKeys, sequence.KeyLength);
        }

        SetSemantics(problem, options, operands);
        SetScoreTensors(problem, tensors, 3, (int)tensors.Query.Layout.Lengths[1], maxKeys, exactKeys: false, cumulativeQueries);
        CheckOverlaps(tensors);
    }

    /// <summary>query [total queries, heads, dim], caches [blocks, blockSize, kvHeads, dim]; block tables are pinned by the caller at <paramref name="blockTables"/>.</summary>
    public static void Paged(
        AttentionProblem problem, in CallTensors call, scoped in PagedSequences sequences, int* blockTables, AttentionOptions options, scoped in AttentionOperands operands)
    {
        SetPaged(problem, call, sequences, hasTables: true, options, operands);
        long columns = sequences.MaxBlocksPerSequence;
        for (int s = 0; s < problem.SequenceCount; s++) problem.Sequences[s].BlockTable = blockTables + (s * columns);
        CheckBlockIds(problem, call.Key.Layout.Lengths[0]);
    }

    /// <summary>The same where only a device can read the tables: <paramref name="sequences"/> has none, and block ids are the device's to check.</summary>
    public static void PagedElsewhere(AttentionProblem problem, in CallTensors call, scoped in PagedSequences sequences, AttentionOptions options, scoped in AttentionOperands operands)
    {
        SetPaged(problem, call, sequences, hasTables: false, options, operands);
        if (call.Key.Layout.Lengths[0] > 0) return;
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            (int first, int end) = problem.NeededBlocks(problem.Sequences[s]);
            if (end > first) ArgumentChecks.Throw($"Sequence {s} has {sequences.ContextLengths[s]} keys, but the cache has no blocks.", "sequences");
        }
    }

    private static void SetPaged(
        AttentionProblem problem, in CallTensors call, scoped in PagedSequences sequences, bool hasTables, AttentionOptions options, scoped in AttentionOperands operands)
    {
        CallTensors tensors = CheckTensors(call, ShapeNames.Paged);
        ArgumentChecks.Length(tensors.Output.Layout, "output", 1, tensors.Query.Layout.Lengths[1], "query's length");
        ArgumentChecks.Length(tensors.Value.Layout, call.Value.Name, 0, tensors.Key.Layout.Lengths[0], "the number of blocks of keyCache");
        ArgumentChecks.Length(tensors.Value.Layout, call.Value.Name, 1, tensors.Key.Layout.Lengths[1], "the block size of keyCache");
        RefuseKeyLengths(operands, "the context lengths");
        ReadOnlySpan<int> cumulativeQueries = sequences.CumulativeQueryLengths;
        CheckCumulative(cumulativeQueries, "CumulativeQueryLengths", tensors.Query.Layout.Lengths[1], "query's length", "sequences");
        int count = cumulativeQueries.Length - 1;
        if (sequences.ContextLengths.Length != count)
        {
            ArgumentChecks.Throw($"ContextLengths has {sequences.ContextLengths.Length} entries for {count} sequences.", "sequences");
        }

        int columns = sequences.MaxBlocksPerSequence;
        if (columns < 0 || (hasTables && (long)columns * count != sequences.BlockTables.Length))
        {
            ArgumentChecks.Throw(
                $"BlockTables has {sequences.BlockTables.Length} entries; expected {count} sequences x {columns} (MaxBlocksPerSequence) = {(long)columns * count}.", "sequences");
        }

        int blockSize = (int)tensors.Key.Layout.Lengths[1];
        SetTensors(problem, tensors);
        SetScales(problem, tensors, rank: 3);
        problem.BlockSize = Math.Max(1, blockSize);
        problem.TablesAreElsewhere = !hasTables;
        problem.KeyBlockStride = tensors.Key.Layout.Strides[0];
        problem.ValueBlockStride = tensors.Value.Layout.Strides[0];
        problem.SetSequenceCount(count);
        int maxKeys = 0;
        for (int s = 0; s < count; s++)
        {
            int context = sequences.ContextLengths[s];
            if (context < 0 || context > (long)columns * blockSize)
            {
                ArgumentChecks.Throw(
                    $"ContextLengths[{s}] is {context}; expected 0 to {(long)columns * blockSize}, the {columns} blocks of {blockSize} that a row of BlockTables names.", "sequences");
            }

            ref SequenceProblem sequence = ref problem.Sequences[s];
            SetPackedQueries(ref sequence, tensors, cumulativeQueries, s);
            sequence.KeyLength = context;
            sequence.BlockTable = null;
            maxKeys = Math.Max(maxKeys, context);
        }

        SetSemantics(problem, options, operands);
        SetScoreTensors(problem, tensors, 3, (int)tensors.Query.Layout.Lengths[1], maxKeys, exactKeys: false, cumulativeQueries);
        CheckOverlaps(tensors);
    }

    /// <summary>Only blocks that hold a key some query may see are needed: what a window has passed, or lies beyond the context, may hold anything.</summary>
    private static void CheckBlockIds(AttentionProblem problem, long blocks)
    {
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref readonly SequenceProblem sequence = ref problem.Sequences[s];
            (int first, int end) = problem.NeededBlocks(sequence);
            if (first == end) continue;
            var ids = new ReadOnlySpan<int>(sequence.BlockTable + first, end - first);
            int bad = blocks == 0 ? 0 : ids.IndexOfAnyExceptInRange(0, (int)Math.Min(blocks - 1, int.MaxValue));
            if (bad >= 0) ArgumentChecks.Throw($"Block table of sequence {s}, entry {first + bad}, is block {ids[bad]}; the cache has blocks 0 to {blocks - 1}.", "sequences");
        }
    }
}
