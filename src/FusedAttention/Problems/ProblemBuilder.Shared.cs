using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>What the layouts share.</summary>
internal static unsafe partial class ProblemBuilder
{
    /// <summary>Ranks, heads, dims and strides of the four tensors; the result has them all at rank 4, with leading dimensions of 1 where there were fewer.</summary>
    private static CallTensors CheckTensors(in CallTensors call, ShapeNames shapes)
    {
        ArgumentChecks.Rank(call.Query.Layout, "query", shapes.QueryRank, shapes.Query);
        ArgumentChecks.Rank(call.Key.Layout, call.Key.Name, shapes.KeyRank, shapes.Key);
        ArgumentChecks.Rank(call.Value.Layout, call.Value.Name, shapes.KeyRank, shapes.Value);
        ArgumentChecks.Rank(call.Output.Layout, "output", shapes.QueryRank, shapes.Output);
        CallTensors tensors = call;
        tensors.Query.Layout = call.Query.Layout.PaddedTo(4);
        tensors.Key.Layout = call.Key.Layout.PaddedTo(4);
        tensors.Value.Layout = call.Value.Layout.PaddedTo(4);
        tensors.Output.Layout = call.Output.Layout.PaddedTo(4);
        ArgumentChecks.FitsInt(tensors.Query.Layout, "query");
        ArgumentChecks.FitsInt(tensors.Key.Layout, call.Key.Name);

        ReadOnlySpan<long> query = tensors.Query.Layout.Lengths;
        ReadOnlySpan<long> key = tensors.Key.Layout.Lengths;
        ReadOnlySpan<long> value = tensors.Value.Layout.Lengths;
        ArgumentChecks.Heads(query[2], key[2], "query", call.Key.Name);
        ArgumentChecks.Dim(query[3], "query", "head dimension");
        int numbers = call.Key.Type.Numbers();
        if (numbers > 1 && query[3] % numbers != 0) ArgumentChecks.Throw($"query has a head dimension of {query[3]}; over keys in blocks of {numbers} numbers it must be a multiple of {numbers}.", "query");
        ArgumentChecks.Length(tensors.Key.Layout, call.Key.Name, 3, query[3] / numbers, numbers == 1 ? "query's head dimension" : "the number of blocks of query's head dimension");
        ArgumentChecks.Length(tensors.Value.Layout, call.Value.Name, 2, key[2], "the number of key heads");
        ArgumentChecks.Dim(value[3] * numbers, call.Value.Name, "head dimension");
        ArgumentChecks.Length(tensors.Output.Layout, "output", 2, query[2], "query's number of heads");
        ArgumentChecks.Length(tensors.Output.Layout, "output", 3, value[3] * numbers, "the value dimension");
        ArgumentChecks.ContiguousLast(tensors.Query.Layout, "query");
        ArgumentChecks.ContiguousLast(tensors.Key.Layout, call.Key.Name);
        ArgumentChecks.ContiguousLast(tensors.Value.Layout, call.Value.Name);
        ArgumentChecks.ContiguousLast(tensors.Output.Layout, "output");
        ArgumentChecks.NotSelfOverlapping(tensors.Output.Layout, "output", "output");
        return tensors;
    }

    private static void SetTensors(AttentionProblem problem, in CallTensors tensors)
    {
        problem.QueryType = tensors.Query.Type;
        problem.KeyValueType = tensors.Key.Type;
        problem.Query = tensors.Query.Pointer;
        problem.Key = tensors.Key.Pointer;
        problem.Value = tensors.Value.Pointer;
        problem.Output = tensors.Output.Pointer;
        problem.QueryTokenStride = tensors.Query.Layout.Strides[1];
        problem.QueryHeadStride = tensors.Query.Layout.Strides[2];
        problem.OutputTokenStride = tensors.Output.Layout.Strides[1];
        problem.OutputHeadStride = tensors.Output.Layout.Strides[2];
        problem.KeyTokenStride = tensors.Key.Layout.Strides[1];
        problem.KeyHeadStride = tensors.Key.Layout.Strides[2];
        problem.ValueTokenStride = tensors.Value.Layout.Strides[1];
        problem.ValueHeadStride = tensors.Value.Layout.Strides[2];
        problem.QueryHeads = (int)tensors.Query.Layout.Lengths[2];
        problem.KeyValueHeads = (int)tensors.Key.Layout.Lengths[2];
        problem.Group = problem.QueryHeads / problem.KeyValueHeads;
        problem.KeyDim = (int)tensors.Query.Layout.Lengths[3];
        problem.ValueDim = (int)tensors.Value.Layout.Lengths[3] * tensors.Value.Type.Numbers();
        problem.BlockSize = 0;
        problem.TablesAreElsewhere = false;
        problem.KeyBlockStride = 0;
        problem.ValueBlockStride = 0;
    }

    private static void SetPackedQueries(ref SequenceProblem sequence, in CallTensors tensors, ReadOnlySpan<int> cumulativeQueries, int index)
    {
        sequence.QueryLength = cumulativeQueries[index + 1] - cumulativeQueries[index];
        sequence.QueryStart = cumulativeQueries[index] * tensors.Query.Layout.Strides[1];
        sequence.OutputStart = cumulativeQueries[index] * tensors.Output.Layout.Strides[1];
    }

    /// <summary>Scale, masks by position and per-head numbers; the alignment becomes one offset a sequence.</summary>
    private static void SetSemantics(AttentionProblem problem, AttentionOptions options, scoped in AttentionOperands operands)
    {
        ArgumentChecks.PerHead(options.AlibiSlopes.IsDefault ? 0 : options.AlibiSlopes.Length, problem.QueryHeads, nameof(options.AlibiSlopes));
        ArgumentChecks.PerHead(options.SinkLogits.IsDefault ? 0 : options.SinkLogits.Length, problem.QueryHeads, nameof(options.SinkLogits));
        ReadOnlySpan<long> offsets = operands.QueryOffsets;
        if (!offsets.IsEmpty && offsets.Length != problem.SequenceCount)
        {
            ArgumentChecks.Throw($"QueryOffsets has {offsets.Length} entries for {problem.SequenceCount} sequences.", "operands");
        }

        problem.Scale = options.Scale ?? (float)(1 / Math.Sqrt(problem.KeyDim));
        problem.SoftCap = options.SoftCap;
        problem.RowInvariant = options.RowInvariant;
        problem.AlibiSlopes = options.HasAlibi ? options.AlibiSlopes.AsMemory() : default;
        problem.SinkLogits = options.HasSinks ? options.SinkLogits.AsMemory() : default;
        problem.IsBeyondFloats = !FloatRange.Holds(problem.Scale, problem.SoftCap, problem.AlibiSlopes.Span);
        problem.LargestQuery = FloatRange.LargestQuery(problem.Scale);
        problem.LargestProduct = FloatRange.LargestProduct(problem.Scale);
        problem.LeftReach = options.Mask.WindowLeft ?? KeyRange.Unbounded;
        problem.RightReach = options.Mask.IsCausal ? 0 : options.Mask.WindowRight ?? KeyRange.Unbounded;
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref SequenceProblem sequence = ref problem.Sequences[s];
            sequence.Index = s;
            if (!offsets.IsEmpty && Math.Abs((double)offsets[s]) > AttentionOptions.MaxQueryOffset)
            {
                ArgumentChecks.Throw($"QueryOffsets[{s}] is {offsets[s]}; expected a magnitude of at most 2^40.", "operands");
            }

            sequence.QueryOffset = !offsets.IsEmpty ? offsets[s]
                : options.QueryOffset ?? (options.Alignment == AttentionAlignment.BottomRight ? (long)sequence.KeyLength - sequence.QueryLength : 0);
        }

        problem.ScoreFunction = options.ScoreFunction;
        problem.MaskFunction = options.MaskFunction;
        if (options.ScoreFunction is not null || options.MaskFunction is not null) CheckFunctions(problem);
    }

    /// <summary>Tables of functions have what the call asks of them, and its positions are floats.</summary>
    private static void CheckFunctions(AttentionProblem problem)
    {
        int queries = 0, keys = 0;
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref readonly SequenceProblem sequence = ref problem.Sequences[s];
            queries = Math.Max(queries, sequence.QueryLength);
            keys = Math.Max(keys, sequence.KeyLength);
            long farthest = Math.Max(Math.Max(Math.Abs(sequence.QueryOffset), Math.Abs(sequence.QueryOffset + sequence.QueryLength)), sequence.KeyLength);
            if (farthest > FloatRange.LargestDistance)
            {
                ArgumentChecks.Throw(
                    $"{(problem.ScoreFunction is not null ? nameof(AttentionOptions.ScoreFunction) : nameof(AttentionOptions.MaskFunction))} takes positions and keys up to 2^24; sequence {s} has {sequence.KeyLength} keys, and queries from position {sequence.QueryOffset} on.",
                    "options");
            }
        }

        problem.ScoreFunction?.Needs.Check(problem.SequenceCount, problem.QueryHeads, queries, keys, "options");
        problem.MaskFunction?.Needs.Check(problem.SequenceCount, problem.QueryHeads, queries, keys, "options");
    }

    /// <summary>Mask, bias and log-sum-exp: broadcast to [batch, heads, queries, keys] by stride 0.</summary>
    /// <remarks>
    /// <paramref name="rank"/> is 4 for a dense batch, 3 for everything else; <paramref name="queries"/> and <paramref name="keys"/> are those of a batch row, or all queries
    /// and the keys of the longest sequence of a packed call, whose last dimension may be longer (<paramref name="exactKeys"/> false).
    /// </remarks>
    private static void SetScoreTensors(
        AttentionProblem problem, in CallTensors tensors, int rank, int queries, int keys, bool exactKeys, ReadOnlySpan<int> cumulativeQueries = default)
    {
        bool packed = !cumulativeQueries.IsEmpty;
        long sequences = packed ? 1 : problem.SequenceCount;
        TensorLayout mask = CheckScoreLayout(tensors.Mask.Layout, "BooleanMask", rank, sequences, problem.QueryHeads, queries, keys, exactKeys);
        problem.HasMask = !mask.IsAbsent;
        problem.Mask = mask.IsAbsent ? null : tensors.Mask.Pointer;
        problem.MaskHeadStride = mask.IsAbsent ? 0 : mask.Strides[1];
        problem.MaskQueryStride = mask.IsAbsent ? 0 : mask.Strides[2];

        TensorLayout bias = CheckScoreLayout(tensors.Bias.Layout, "Bias", rank, sequences, problem.QueryHeads, queries, keys, exactKeys);
        problem.HasBias = !bias.IsAbsent;
        problem.Bias = bias.IsAbsent ? null : tensors.Bias.Pointer;
        problem.BiasType = tensors.Bias.Type;
        problem.BiasHeadStride = bias.IsAbsent ? 0 : bias.Strides[1];
        problem.BiasQueryStride = bias.IsAbsent ? 0 : bias.Strides[2];

        TensorLayout lse = tensors.LogSumExp.Layout;
        if (!lse.IsAbsent)
        {
            bool matches = lse.Rank == rank - 1 && lse.Lengths[^1] == queries && lse.Lengths[^2] == problem.QueryHeads && (rank == 3 || lse.Lengths[0] == sequences);
            if (!matches)
            {
                ArgumentChecks.Throw($"LogSumExp has shape {lse}; expected [{(rank == 4 ? $"{sequences}, " : "")}{problem.QueryHeads}, {queries}].", "operands");
            }

            ArgumentChecks.NotSelfOverlapping(lse, "LogSumExp", "operands");
            lse = lse.PaddedTo(3);
        }

        problem.HasLogSumExp = !lse.IsAbsent;
        problem.LogSumExp = lse.IsAbsent ? null : (float*)tensors.LogSumExp.Pointer;
        problem.LogSumExpHeadStride = lse.IsAbsent ? 0 : lse.Strides[1];
        problem.LogSumExpQueryStride = lse.IsAbsent ? 0 : lse.Strides[2];
        for (int s = 0; s < problem.SequenceCount; s++)
        {
            ref SequenceProblem sequence = ref problem.Sequences[s];
            long first = packed ? cumulativeQueries[s] : 0;
            long row = packed ? 0 : s;
            if (!mask.IsAbsent) sequence.MaskStart = (row * mask.Strides[0]) + (first * mask.Strides[2]);
            if (!bias.IsAbsent) sequence.BiasStart = (row * bias.Strides[0]) + (first * bias.Strides[2]);
            if (!lse.IsAbsent) sequence.LogSumExpStart = (row * lse.Strides[0]) + (first * lse.Strides[2]);
        }
    }

    /// <summary>Scales of 8-bit keys and values: broadcast to [batch or blocks, tokens, kvHeads] of keys and values by stride 0.</summary>
    /// <param name="problem">The call.</param>
    /// <param name="tensors">Its tensors.</param>
    /// <param name="rank">Of a full tensor of scales: that of keys, less the head dimension.</param>
    private static void SetScales(AttentionProblem problem, in CallTensors tensors, int rank)
    {
        problem.KeyScale = CheckScale(tensors.KeyScale, tensors.Key, rank);
        problem.ValueScale = CheckScale(tensors.ValueScale, tensors.Value, rank);
        (problem.HasKeyScale, problem.HasValueScale) = (!problem.KeyScale.IsAbsent, !problem.ValueScale.IsAbsent);
    }

    private static ScaleTensor CheckScale(in TensorArgument scale, in TensorArgument codes, int rank)
    {
        if (scale.IsAbsent) return default;
        if (!codes.Type.TakesScales())
        {
            string has = codes.Type == AttentionElementType.Q8Block ? ", which hold their own" : "";
            ArgumentChecks.Throw($"{scale.Name} goes with elements of Int8 or Float8E4M3; {codes.Name} has elements of {codes.Type}{has}.", "operands");
        }

        TensorLayout layout = scale.Layout.Rank <= rank ? scale.Layout.PaddedTo(3) : default(TensorLayout).PaddedTo(3);
        bool matches = scale.Layout.Rank <= rank;
        for (int i = 0; matches && i < 3; i++) matches = layout.Lengths[i] == 1 || layout.Lengths[i] == codes.Layout.Lengths[i];
        if (!matches)
        {
            ReadOnlySpan<long> lengths = codes.Layout.Lengths;
            string first = rank == 3 ? $"1 or {lengths[0]}, " : "";
            ArgumentChecks.Throw($"{scale.Name} has shape {scale.Layout}; expected [{first}1 or {lengths[1]}, 1 or {lengths[2]}], leading dimensions may be left out.", "operands");
        }

        return new() { First = (float*)scale.Pointer, BlockStride = layout.Strides[0], TokenStride = layout.Strides[1], HeadStride = layout.Strides[2] };
    }

    private static TensorLayout CheckScoreLayout(
        in TensorLayout layout, string name, int rank, long sequences, long heads, long queries, long keys, bool exactKeys)
    {
        if (layout.IsAbsent) return layout;
        TensorLayout padded = layout.Rank <= rank ? layout.PaddedTo(4) : default(TensorLayout).PaddedTo(4);
        ReadOnlySpan<long> lengths = padded.Lengths;
        bool matches = layout.Rank <= rank
            && (lengths[0] == 1 || lengths[0] == sequences)
            && (lengths[1] == 1 || lengths[1] == heads)
            && (lengths[2] == 1 || lengths[2] == queries)
            && (exactKeys ? lengths[3] == keys : lengths[3] >= keys);
        if (!matches)
        {
            string batch = rank == 4 ? $"1 or {sequences}, " : "";
            ArgumentChecks.Throw(
                $"{name} has shape {layout}; expected [{batch}1 or {heads}, 1 or {queries}, {keys}{(exactKeys ? "" : " or more")}], leading dimensions may be left out.", "operands");
        }

        if (lengths[3] > 1 && padded.Strides[3] != 1)
        {
            ArgumentChecks.Throw($"{name} of shape {layout} has stride {padded.Strides[3]} in its last dimension; it must be contiguous (stride 1).", "operands");
        }

        return padded;
    }

    private static void CheckCumulative(ReadOnlySpan<int> cumulative, string name, long total, string meaning, string? argument = null)
    {
        argument ??= name;
        if (cumulative.IsEmpty) ArgumentChecks.Throw($"{name} is empty; expected one entry more than there are sequences.", argument);
        if (cumulative[0] != 0) ArgumentChecks.Throw($"{name}[0] is {cumulative[0]}; expected 0.", argument);
        for (int i = 1; i < cumulative.Length; i++)
        {
            if (cumulative[i] < cumulative[i - 1])
            {
                ArgumentChecks.Throw($"{name}[{i}] is {cumulative[i]}, below {name}[{i - 1}] = {cumulative[i - 1]}; expected ascending numbers.", argument);
            }
        }

        if (cumulative[^1] != total) ArgumentChecks.Throw($"{name} ends at {cumulative[^1]}, but {meaning} is {total}.", argument);
    }

    private static void RefuseKeyLengths(scoped in AttentionOperands operands, string instead)
    {
        if (!operands.KeyLengths.IsEmpty)
        {
            ArgumentChecks.Throw($"KeyLengths has {operands.KeyLengths.Length} entries, but belongs to dense calls; here {instead} say how many keys a sequence has.", "operands");
        }
    }

    private static void CheckOverlaps(in CallTensors tensors)
    {
        Check(tensors, tensors.Output, "output");
        if (tensors.LogSumExp.IsAbsent) return;
        Check(tensors, tensors.LogSumExp, "operands");
        ArgumentChecks.NotOverlapping(tensors.LogSumExp, "operands", tensors.Output);

        static void Check(in CallTensors tensors, in TensorArgument written, string argument)
        {
            ArgumentChecks.NotOverlapping(written, argument, tensors.Query);
            ArgumentChecks.NotOverlapping(written, argument, tensors.Key);
            ArgumentChecks.NotOverlapping(written, argument, tensors.Value);
            ArgumentChecks.NotOverlapping(written, argument, tensors.Mask);
            ArgumentChecks.NotOverlapping(written, argument, tensors.Bias);
            ArgumentChecks.NotOverlapping(written, argument, tensors.KeyScale);
            ArgumentChecks.NotOverlapping(written, argument, tensors.ValueScale);
        }
    }

    /// <summary>The expected ranks and, for messages, the dimensions of a layout. Constants: no call builds a string unless it throws.</summary>
    private sealed record ShapeNames(int QueryRank, int KeyRank, string Query, string Key, string Value, string Output)
    {
        public static readonly ShapeNames Batched = new(
            4, 4, "[batch, queries, heads, dim]", "[batch, keys, kvHeads, dim]", "[batch, keys, kvHeads, value dim]", "[batch, queries, heads, value dim]");

        public static readonly ShapeNames Single = new(
            3, 3, "[queries, heads, dim]", "[keys, kvHeads, dim]", "[keys, kvHeads, value dim]", "[queries, heads, value dim]");

        public static readonly ShapeNames Packed = new(
            3, 3, "[total queries, heads, dim]", "[total keys, kvHeads, dim]", "[total keys, kvHeads, value dim]", "[total queries, heads, value dim]");

        public static readonly ShapeNames Paged = new(
            3, 4, "[total queries, heads, dim]", "[blocks, blockSize, kvHeads, dim]", "[blocks, blockSize, kvHeads, value dim]", "[total queries, heads, value dim]");
    }
}
