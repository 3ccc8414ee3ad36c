using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Checks;

/// <summary>The sizes, types and options of a call on random numbers, the same on every run. What the call may not read is NaN.</summary>
internal sealed record CallRecipe
{
    public SequenceLayout Layout { get; init; }

    /// <summary>Query tokens: of each row of a dense batch, which are alike, or of each sequence.</summary>
    public required int[] QueryLengths { get; init; }

    /// <summary>Keys of each; a dense batch whose rows differ has room for the longest.</summary>
    public required int[] KeyLengths { get; init; }

    public int Heads { get; init; } = 4;

    public int KeyValueHeads { get; init; } = 2;

    public int KeyDim { get; init; } = 64;

    public int ValueDim { get; init; } = 64;

    public TensorElementType QueryType { get; init; } = TensorElementType.Float16;

    public TensorElementType KeyValueType { get; init; } = TensorElementType.Float16;

    public int BlockSize { get; init; } = 16;

    public AttentionOptions Options { get; init; } = AttentionOptions.Default;

    /// <summary>A mask that lets two of three keys through, and none to the first query.</summary>
    public bool HasMask { get; init; }

    /// <summary>A bias of this type; null for none.</summary>
    public TensorElementType? BiasType { get; init; }

    /// <summary>Exclude every fifth key by -inf and all of the second query's but by the most negative finite number.</summary>
    public bool HasExtremeBias { get; init; }

    /// <summary>Queries and keys lie between plus and minus this.</summary>
    public double Amplitude { get; init; } = 1;

    private int TotalQueries => QueryLengths.Sum();

    private int MaxKeys => KeyLengths.DefaultIfEmpty(0).Max();

    public AttentionCall CreateCall(AttentionOptions run)
    {
        AttentionOptions options = Options with
        {
            InstructionSet = run.InstructionSet,
            RowInvariant = Options.RowInvariant || run.RowInvariant,
            MaxDegreeOfParallelism = run.MaxDegreeOfParallelism,
            CancellationToken = run.CancellationToken,
        };
        AttentionCall call = Layout switch
        {
            SequenceLayout.Dense => Dense(options),
            SequenceLayout.VariableLength => Packed(options),
            _ => Paged(options),
        };
        CallCheck.Check(call);
        return call;
    }

    private AttentionCall Dense(AttentionOptions options)
    {
        int batch = QueryLengths.Length;
        bool differ = KeyLengths.Any(length => length != MaxKeys);
        float[] key = Numbers(2, (long)batch * MaxKeys * KeyValueHeads * KeyDim, Amplitude), value = Numbers(3, (long)batch * MaxKeys * KeyValueHeads * ValueDim, 1);
        for (int b = 0; b < batch; b++)
        {
            int row = MaxKeys * KeyValueHeads, from = KeyLengths[b] * KeyValueHeads;
            key.AsSpan(((b * row) + from) * KeyDim, (row - from) * KeyDim).Fill(float.NaN);
            value.AsSpan(((b * row) + from) * ValueDim, (row - from) * ValueDim).Fill(float.NaN);
        }

        int queries = QueryLengths.Length == 0 ? 0 : QueryLengths[0];
        return new()
        {
            Query = Tensor("q", QueryType, Numbers(1, (long)batch * queries * Heads * KeyDim, Amplitude), batch, queries, Heads, KeyDim),
            Key = Tensor("k", KeyValueType, key, batch, MaxKeys, KeyValueHeads, KeyDim),
            Value = Tensor("v", KeyValueType, value, batch, MaxKeys, KeyValueHeads, ValueDim),
            Mask = Mask(batch, 1, queries, MaxKeys),
            Bias = Bias(1, Heads, queries, MaxKeys),
            KeyLengths = differ ? KeyLengths : null,
            Options = options,
        };
    }

    private AttentionCall Packed(AttentionOptions options)
    {
        int keys = KeyLengths.Sum();
        return new()
        {
            Layout = SequenceLayout.VariableLength,
            Query = Tensor("q", QueryType, Numbers(1, (long)TotalQueries * Heads * KeyDim, Amplitude), TotalQueries, Heads, KeyDim),
            Key = Tensor("k", KeyValueType, Numbers(2, (long)keys * KeyValueHeads * KeyDim, Amplitude), keys, KeyValueHeads, KeyDim),
            Value = Tensor("v", KeyValueType, Numbers(3, (long)keys * KeyValueHeads * ValueDim, 1), keys, KeyValueHeads, ValueDim),
            Mask = Mask(1, TotalQueries, MaxKeys),
            Bias = Bias(Heads, TotalQueries, MaxKeys),
            CumulativeQueryLengths = Cumulative(QueryLengths),
            CumulativeKeyLengths = Cumulative(KeyLengths),
            Options = options,
        };
    }

    /// <summary>Sequences in blocks that lie in no order, with one block that nobody has, entries that name none, and NaN in every slot without a key.</summary>
    private AttentionCall Paged(AttentionOptions options)
    {
        int sequences = QueryLengths.Length;
        int entries = ((MaxKeys + BlockSize - 1) / BlockSize) + 1;
        int blocks = KeyLengths.Sum(keys => (keys + BlockSize - 1) / BlockSize) + 1;
        int[] order = [.. Enumerable.Range(0, blocks)];
        new Random(5).Shuffle(order);
        int[] tables = [.. Enumerable.Repeat(-1, sequences * entries)];
        float[] key = [.. Enumerable.Repeat(float.NaN, blocks * BlockSize * KeyValueHeads * KeyDim)];
        float[] value = [.. Enumerable.Repeat(float.NaN, blocks * BlockSize * KeyValueHeads * ValueDim)];
        int next = 0, keyWidth = KeyValueHeads * KeyDim, valueWidth = KeyValueHeads * ValueDim;
        for (int s = 0; s < sequences; s++)
        {
            for (int first = 0; first < KeyLengths[s]; first += BlockSize)
            {
                int block = order[next++], tokens = Math.Min(BlockSize, KeyLengths[s] - first);
                tables[(s * entries) + (first / BlockSize)] = block;
                Numbers(100 + block, (long)tokens * keyWidth, Amplitude).CopyTo(key, block * BlockSize * keyWidth);
                Numbers(1000 + block, (long)tokens * valueWidth, 1).CopyTo(value, block * BlockSize * valueWidth);
            }
        }

        return new()
        {
            Layout = SequenceLayout.Paged,
            Query = Tensor("q", QueryType, Numbers(1, (long)TotalQueries * Heads * KeyDim, Amplitude), TotalQueries, Heads, KeyDim),
            Key = Tensor("k", KeyValueType, key, blocks, BlockSize, KeyValueHeads, KeyDim),
            Value = Tensor("v", KeyValueType, value, blocks, BlockSize, KeyValueHeads, ValueDim),
            Mask = Mask(1, TotalQueries, MaxKeys),
            Bias = Bias(Heads, TotalQueries, MaxKeys),
            CumulativeQueryLengths = Cumulative(QueryLengths),
            ContextLengths = KeyLengths,
            BlockTables = tables,
            MaxBlocksPerSequence = entries,
            Options = options,
        };
    }

    private LoadedTensor? Mask(params ReadOnlySpan<long> shape)
    {
        if (!HasMask) return null;
        int queries = (int)shape[^2], keys = (int)shape[^1];
        bool[] mask = new bool[(int)LoadedTensor.TryCountElements(shape)!.Value];
        for (int i = 0; i < mask.Length; i++)
        {
            (int query, int key) = (i / keys % queries, i % keys);
            mask[i] = query != 0 && (query + key) % 3 != 0;
        }

        return LoadedTensor.Create<bool>("mask", mask, shape);
    }

    private LoadedTensor? Bias(params ReadOnlySpan<long> shape)
    {
        if (BiasType is not TensorElementType type) return null;
        int queries = (int)shape[^2], keys = (int)shape[^1];
        float[] bias = Numbers(4, LoadedTensor.TryCountElements(shape)!.Value, 2);
        float lowest = type switch { TensorElementType.Float16 => (float)Half.MinValue, TensorElementType.BFloat16 => (float)BFloat16.MinValue, _ => float.MinValue };
        for (int i = 0; HasExtremeBias && i < bias.Length; i++)
        {
            if (i / keys % queries == 1) bias[i] = lowest;
            else if (i % keys % 5 == 0) bias[i] = float.NegativeInfinity;
        }

        return Tensor("bias", type, bias, shape);
    }

    private static LoadedTensor Tensor(string name, TensorElementType type, float[] numbers, params ReadOnlySpan<long> shape) => LoadedTensor.Create<float>(name, numbers, shape).ConvertTo(type);

    private static float[] Numbers(int seed, long count, double amplitude)
    {
        var random = new Random(seed);
        float[] numbers = new float[count];
        foreach (ref float number in numbers.AsSpan()) number = (float)(((random.NextDouble() * 2) - 1) * amplitude);
        return numbers;
    }

    private static int[] Cumulative(int[] lengths)
    {
        int[] cumulative = new int[lengths.Length + 1];
        for (int i = 0; i < lengths.Length; i++) cumulative[i + 1] = cumulative[i] + lengths[i];
        return cumulative;
    }
}
