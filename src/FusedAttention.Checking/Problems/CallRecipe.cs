using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>The one maker of random problems: sizes, types and options of a call on <see cref="RandomNumbers"/>, the same on every run. What the call may not read is NaN.</summary>
public sealed record CallRecipe
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

    /// <summary>A paged call: one block that no sequence has, and one entry of each table that names none. A check wants them; a benchmark wants the memory that a cache would have.</summary>
    public bool HasSpares { get; init; } = true;

    public AttentionOptions Options { get; init; } = AttentionOptions.Default;

    /// <summary>A mask that lets two of three keys through, and none to the first query.</summary>
    public bool HasMask { get; init; }

    /// <summary>A bias of this type; null for none.</summary>
    public TensorElementType? BiasType { get; init; }

    /// <summary>Exclude every fifth key by -inf and all of the second query's but by the most negative finite number.</summary>
    public bool HasExtremeBias { get; init; }

    /// <summary>Queries and keys lie between plus and minus this.</summary>
    public double Amplitude { get; init; } = 1;

    private long TotalQueries => QueryLengths.Sum(static length => (long)length);

    private int MaxKeys => KeyLengths.DefaultIfEmpty(0).Max();

    /// <summary>The call, the same one every time.</summary>
    /// <param name="run">How it will run: with row invariance, or as the recipe says.</param>
    /// <exception cref="UsageException">It is larger than the tensors here may be, or does not fit together.</exception>
    public CallInputs CreateCall(RunOptions run)
    {
        AttentionOptions options = run.Apply(Options);
        CallInputs call = Layout switch
        {
            SequenceLayout.Dense => Dense(options),
            SequenceLayout.VariableLength => Packed(options),
            _ => Paged(options),
        };
        CallCheck.Check(call);
        return call;
    }

    private CallInputs Dense(AttentionOptions options)
    {
        int batch = QueryLengths.Length;
        int queries = batch == 0 ? 0 : QueryLengths[0];
        int keys = MaxKeys;
        (long From, long To)[] hidden = [.. KeyLengths.Select((length, b) => (((long)b * keys) + length, (b + 1L) * keys))];
        ((LoadedTensor key, LoadedTensor? keyScale), (LoadedTensor value, LoadedTensor? valueScale)) = (Key(hidden, batch, keys), Value(hidden, batch, keys));
        return new()
        {
            Query = Query(batch, queries, Heads, KeyDim),
            Key = key,
            Value = value,
            KeyScale = keyScale,
            ValueScale = valueScale,
            Mask = Mask(batch, 1, queries, keys),
            Bias = Bias(1, Heads, queries, keys),
            KeyLengths = KeyLengths.Any(length => length != keys) ? KeyLengths : null,
            Options = options,
        };
    }

    private CallInputs Packed(AttentionOptions options)
    {
        long keys = KeyLengths.Sum(static length => (long)length);
        ((LoadedTensor key, LoadedTensor? keyScale), (LoadedTensor value, LoadedTensor? valueScale)) = (Key([], keys), Value([], keys));
        return new()
        {
            Layout = SequenceLayout.VariableLength,
            Query = Query(TotalQueries, Heads, KeyDim),
            Key = key,
            Value = value,
            KeyScale = keyScale,
            ValueScale = valueScale,
            Mask = Mask(1, TotalQueries, MaxKeys),
            Bias = Bias(Heads, TotalQueries, MaxKeys),
            CumulativeQueryLengths = Cumulative(QueryLengths),
            CumulativeKeyLengths = Cumulative(KeyLengths),
            Options = options,
        };
    }

    /// <summary>Sequences in blocks that lie in no order, with NaN in every slot without a key.</summary>
    private CallInputs Paged(AttentionOptions options)
    {
        int sequences = QueryLengths.Length;
        int spares = HasSpares ? 1 : 0;
        int entries = BlocksFor(MaxKeys) + spares;
        if (sequences * Math.Max((long)entries, QueryLengths.DefaultIfEmpty(0).Max()) > int.MaxValue)
            throw new UsageException($"{sequences} sequences of {QueryLengths.Max()} queries and {entries} blocks pass 2^31.");
        int[] order = [.. Enumerable.Range(0, KeyLengths.Sum(BlocksFor) + spares)];
        new Random(5).Shuffle(order);
        int[] tables = [.. Enumerable.Repeat(-1, sequences * entries)];
        var hidden = new List<(long From, long To)>();
        int next = 0;
        for (int s = 0; s < sequences; s++)
        {
            for (int n = 0; n < BlocksFor(KeyLengths[s]); n++)
            {
                int block = order[next++], tokens = Math.Min(BlockSize, KeyLengths[s] - (n * BlockSize));
                tables[(s * entries) + n] = block;
                hidden.Add((((long)block * BlockSize) + tokens, (block + 1L) * BlockSize));
            }
        }

        if (HasSpares) hidden.Add(((long)order[next] * BlockSize, (order[next] + 1L) * BlockSize));
        ((LoadedTensor key, LoadedTensor? keyScale), (LoadedTensor value, LoadedTensor? valueScale)) = (Key(hidden, order.Length, BlockSize), Value(hidden, order.Length, BlockSize));
        return new()
        {
            Layout = SequenceLayout.Paged,
            Query = Query(TotalQueries, Heads, KeyDim),
            Key = key,
            Value = value,
            KeyScale = keyScale,
            ValueScale = valueScale,
            Mask = Mask(1, TotalQueries, MaxKeys),
            Bias = Bias(Heads, TotalQueries, MaxKeys),
            CumulativeQueryLengths = Cumulative(QueryLengths),
            ContextLengths = KeyLengths,
            BlockTables = tables,
            MaxBlocksPerSequence = entries,
            Options = options,
        };
    }

    private LoadedTensor Query(params ReadOnlySpan<long> shape) => Numbers(1, shape, Amplitude).ToTensor("q", QueryType, shape);

    private (LoadedTensor Tensor, LoadedTensor? Scale) Key(IEnumerable<(long From, long To)> hidden, params ReadOnlySpan<long> tokens)
        => Tokens("k", seed: 2, Amplitude, hidden, [.. tokens, KeyValueHeads, KeyDim]);

    private (LoadedTensor Tensor, LoadedTensor? Scale) Value(IEnumerable<(long From, long To)> hidden, params ReadOnlySpan<long> tokens)
        => Tokens("v", seed: 3, 1, hidden, [.. tokens, KeyValueHeads, ValueDim]);

    /// <summary>Keys or values, and scales of those of 8 bits; tokens that no query may see are NaN, which every type but int8 has where all bits are set, and so are their scales.</summary>
    private (LoadedTensor Tensor, LoadedTensor? Scale) Tokens(string name, int seed, double amplitude, IEnumerable<(long From, long To)> hidden, params ReadOnlySpan<long> shape)
    {
        RandomNumbers numbers = Numbers(seed, shape, amplitude);
        if (!KeyValueType.IsEightBit())
        {
            byte[] bytes = numbers.ToBytes(name, KeyValueType, shape);
            Poison(bytes, shape[^2] * shape[^1] * KeyValueType.SizeInBytes(), hidden);
            return (new(name, KeyValueType, [.. shape], bytes), null);
        }

        QuantizedTensor quantized = QuantizedTensor.Of(name, numbers, KeyValueType, shape);
        return (Poisoned(quantized.Codes, quantized.Codes.Shape[^2] * quantized.Codes.Shape[^1], hidden), quantized.Scale is LoadedTensor scale ? Poisoned(scale, scale.Shape[^1], hidden) : null);
    }

    private static LoadedTensor Poisoned(LoadedTensor tensor, long tokenElements, IEnumerable<(long From, long To)> hidden)
    {
        if (hidden.All(static range => range.From == range.To)) return tensor;
        byte[] bytes = tensor.Bytes.ToArray();
        Poison(bytes, tokenElements * tensor.ElementType.SizeInBytes(), hidden);
        return new(tensor.Name, tensor.ElementType, tensor.Shape, bytes);
    }

    private static void Poison(byte[] bytes, long tokenBytes, IEnumerable<(long From, long To)> hidden)
    {
        foreach ((long from, long to) in hidden) bytes.AsSpan((int)(from * tokenBytes), (int)((to - from) * tokenBytes)).Fill(0xFF);
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
        float[] bias = new float[(int)LoadedTensor.TryCountElements(shape)!.Value];
        Numbers(4, shape, 2).CopyTo(bias);
        float lowest = type switch { TensorElementType.Float16 => (float)Half.MinValue, TensorElementType.BFloat16 => (float)BFloat16.MinValue, _ => float.MinValue };
        for (int i = 0; HasExtremeBias && i < bias.Length; i++)
        {
            if (i / keys % queries == 1) bias[i] = lowest;
            else if (i % keys % 5 == 0) bias[i] = float.NegativeInfinity;
        }

        return LoadedTensor.Create<float>("bias", bias, shape).ConvertTo(type);
    }

    private static RandomNumbers Numbers(int seed, ReadOnlySpan<long> shape, double amplitude)
        => RandomNumbers.Uniform(seed, LoadedTensor.TryCountElements(shape) ?? RandomNumbers.Period, amplitude);

    private int BlocksFor(int keys) => (int)(((long)keys + BlockSize - 1) / BlockSize);

    private static int[] Cumulative(int[] lengths)
    {
        int[] cumulative = new int[lengths.Length + 1];
        for (int i = 0; i < lengths.Length; i++) cumulative[i + 1] = cumulative[i] + lengths[i];
        return cumulative;
    }
}
