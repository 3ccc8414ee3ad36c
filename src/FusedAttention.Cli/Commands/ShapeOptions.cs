using System.CommandLine;
using System.Runtime.InteropServices;
using FusedAttention.Cli.Backends;
using FusedAttention.Cli.Calls;
using FusedAttention.Cli.Formats;

namespace FusedAttention.Cli.Commands;

/// <summary>The sizes and types of a call without files: what <c>bench</c> and <c>explain</c> work on.</summary>
internal sealed class ShapeOptions
{
    private readonly Option<int> _batch = Size("--batch", "Sequences.", 1);
    private readonly Option<int> _queryHeads = Size("--query-heads", "Query heads.", 8);
    private readonly Option<int?> _kvHeads = new("--kv-heads") { Description = "Key/value heads; as many as query heads if not given.", HelpName = "N" };
    private readonly Option<int> _queryLength = Size("--query-length", "Query tokens a sequence; 1 is decoding.", 1024);
    private readonly Option<int?> _keyLength = new("--key-length") { Description = "Keys a sequence; as many as queries if not given.", HelpName = "N" };
    private readonly Option<int> _dim = Size("--dim", "Elements of a query or key of one head.", 128);
    private readonly Option<int?> _valueDim = new("--value-dim") { Description = "Elements of a value of one head; as --dim if not given.", HelpName = "N" };
    private readonly Option<string> _dtype = new("--dtype") { Description = "fp32, fp16 or bf16.", HelpName = "TYPE", DefaultValueFactory = _ => "fp32" };
    private readonly Option<string?> _kvDtype = new("--kv-dtype") { Description = "Type of keys and values; as --dtype if not given (fp16 and bf16 go with fp32 queries).", HelpName = "TYPE" };

    private readonly Option<string> _mask = new("--mask")
    {
        Description = "full, causal, window:LEFT,RIGHT or causal+window:LEFT,RIGHT (* for all).",
        HelpName = "MASK",
        DefaultValueFactory = _ => "full",
    };

    private readonly Option<int?> _paged = new("--paged") { Description = "Keys and values in a paged cache with blocks of this many tokens, in shuffled order.", HelpName = "BLOCK" };

    private Option[] All => [_batch, _queryHeads, _kvHeads, _queryLength, _keyLength, _dim, _valueDim, _dtype, _kvDtype, _mask, _paged];

    public void AddTo(Command command)
    {
        foreach (Option option in All) command.Add(option);
    }

    /// <summary>Whether the command line says anything about the shape.</summary>
    public bool IsGiven(ParseResult parsed) => All.Any(option => parsed.GetResult(option) is { Implicit: false });

    public CallShape Read(ParseResult parsed)
    {
        int queryHeads = parsed.GetValue(_queryHeads);
        int queryLength = parsed.GetValue(_queryLength);
        int dim = parsed.GetValue(_dim);
        TensorElementType type = OptionText.ElementType(_dtype.Name, parsed.GetValue(_dtype)!);
        var shape = new CallShape
        {
            Batch = parsed.GetValue(_batch),
            QueryHeads = queryHeads,
            KeyValueHeads = parsed.GetValue(_kvHeads) ?? queryHeads,
            QueryLength = queryLength,
            KeyLength = parsed.GetValue(_keyLength) ?? queryLength,
            KeyDim = dim,
            ValueDim = parsed.GetValue(_valueDim) ?? dim,
            QueryType = type,
            KeyValueType = parsed.GetValue(_kvDtype) is string kv ? OptionText.ElementType(_kvDtype.Name, kv) : type,
            Mask = OptionText.PositionMask(_mask.Name, parsed.GetValue(_mask)!),
            BlockSize = parsed.GetValue(_paged),
        };
        foreach ((string name, int? value) in new (string, int?)[]
        {
            ("--batch", shape.Batch), ("--query-heads", shape.QueryHeads), ("--kv-heads", shape.KeyValueHeads), ("--query-length", shape.QueryLength),
            ("--key-length", shape.KeyLength), ("--dim", shape.KeyDim), ("--value-dim", shape.ValueDim), ("--paged", shape.BlockSize),
        })
        {
            if (value is < 1) throw new UsageException($"{name} {value} is not 1 or more.");
        }

        return shape;
    }

    private static Option<int> Size(string name, string description, int initial)
        => new(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => initial };
}

/// <summary>The sizes, types and mask of a call whose numbers do not matter.</summary>
internal sealed record CallShape
{
    public required int Batch { get; init; }

    public required int QueryHeads { get; init; }

    public required int KeyValueHeads { get; init; }

    public required int QueryLength { get; init; }

    public required int KeyLength { get; init; }

    public required int KeyDim { get; init; }

    public required int ValueDim { get; init; }

    public required TensorElementType QueryType { get; init; }

    public required TensorElementType KeyValueType { get; init; }

    public required AttentionMask Mask { get; init; }

    /// <summary>Tokens a block of a paged cache; null for a dense call.</summary>
    public required int? BlockSize { get; init; }

    public string MaskText
    {
        get
        {
            if (Mask.WindowLeft is null && Mask.WindowRight is null) return Mask.IsCausal ? "causal" : "full";
            string window = $"window:{Mask.WindowLeft?.ToString() ?? "*"},{Mask.WindowRight?.ToString() ?? "*"}";
            return Mask.IsCausal ? "causal+" + window : window;
        }
    }

    public AttentionExplanation Explain(Backend backend, AttentionOptions options)
    {
        var sizes = new CallSizes(QueryType, KeyValueType, new AttentionShape(Batch, QueryLength, KeyLength, QueryHeads, KeyValueHeads, KeyDim, ValueDim));
        if (BlockSize is int blockSize)
        {
            sizes = sizes with
            {
                QueryLengths = [.. Enumerable.Repeat(QueryLength, Batch)],
                KeyLengths = [.. Enumerable.Repeat(KeyLength, Batch)],
                BlockSize = blockSize,
            };
        }

        return backend.Explain(sizes, options with { Mask = Mask });
    }

    /// <summary>A call of this shape on random numbers, the same on every run.</summary>
    public AttentionCall CreateCall(AttentionOptions options)
    {
        int seed = 1;
        var run = options with { Mask = Mask };
        if (BlockSize is not int blockSize)
        {
            return new()
            {
                Query = Random("q", QueryType, ref seed, Batch, QueryLength, QueryHeads, KeyDim),
                Key = Random("k", KeyValueType, ref seed, Batch, KeyLength, KeyValueHeads, KeyDim),
                Value = Random("v", KeyValueType, ref seed, Batch, KeyLength, KeyValueHeads, ValueDim),
                Options = run,
            };
        }

        int blocksPerSequence = (int)(((long)KeyLength + blockSize - 1) / blockSize);
        if ((long)Batch * Math.Max(blocksPerSequence, QueryLength) > int.MaxValue) throw new UsageException($"{Batch} sequences of {QueryLength} queries and {blocksPerSequence} blocks pass 2^31.");
        int[] tables = [.. Enumerable.Range(0, Batch * blocksPerSequence)];
        new Random(seed).Shuffle(tables);
        return new()
        {
            Layout = SequenceLayout.Paged,
            Query = Random("q", QueryType, ref seed, (long)Batch * QueryLength, QueryHeads, KeyDim),
            Key = Random("k", KeyValueType, ref seed, tables.Length, blockSize, KeyValueHeads, KeyDim),
            Value = Random("v", KeyValueType, ref seed, tables.Length, blockSize, KeyValueHeads, ValueDim),
            CumulativeQueryLengths = [.. Enumerable.Range(0, Batch + 1).Select(s => s * QueryLength)],
            ContextLengths = [.. Enumerable.Repeat(KeyLength, Batch)],
            BlockTables = tables,
            MaxBlocksPerSequence = blocksPerSequence,
            Options = run,
        };
    }

    /// <summary>Numbers from -1 to 1. A pattern of 2^16 of them repeats: making gigabytes of random numbers would outlast the benchmark.</summary>
    private static LoadedTensor Random(string name, TensorElementType type, ref int seed, params ReadOnlySpan<long> shape)
    {
        long? count = LoadedTensor.TryCountElements(shape);
        if (count is null || count > TensorFile.MaxTensorBytes / type.SizeInBytes()) throw new UsageException($"{name} {LoadedTensor.Describe(shape)} passes {TensorFile.MaxTensorBytes} bytes, which is as much as this tool holds in one tensor.");
        var random = new Random(seed++);
        float[] numbers = new float[1 << 16];
        foreach (ref float number in numbers.AsSpan()) number = (random.NextSingle() * 2) - 1;
        ReadOnlySpan<byte> pattern = LoadedTensor.Create<float>(name, numbers, numbers.Length).ConvertTo(type).Bytes;
        byte[] data = GC.AllocateUninitializedArray<byte>((int)count * type.SizeInBytes());
        for (int i = 0; i < data.Length; i += pattern.Length) pattern[..Math.Min(pattern.Length, data.Length - i)].CopyTo(data.AsSpan(i));
        return new(name, type, ImmutableCollectionsMarshal.AsImmutableArray(shape.ToArray()), data);
    }
}
