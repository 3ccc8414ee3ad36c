using System.CommandLine;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>The arguments and options that name query, key, value, mask, bias and key lengths.</summary>
internal sealed class InputOptions
{
    private readonly Argument<string[]> _files = new("FILE")
    {
        Description = "One .safetensors or .npz file with query, key and value, or three .npy files in this order.",
        Arity = new ArgumentArity(0, 3),
    };

    private readonly Option<string?> _query = new("--query", "-q") { Description = "Name of the query tensor; 'q' or 'query' if not given.", HelpName = "NAME" };
    private readonly Option<string?> _key = new("--key", "-k") { Description = "Name of the key tensor; 'k' or 'key' if not given.", HelpName = "NAME" };
    private readonly Option<string?> _value = new("--value", "-v") { Description = "Name of the value tensor; 'v' or 'value' if not given.", HelpName = "NAME" };
    private readonly Option<string?> _queryFile = new("--query-file") { Description = "File that holds the query.", HelpName = "FILE" };
    private readonly Option<string?> _keyFile = new("--key-file") { Description = "File that holds the key.", HelpName = "FILE" };
    private readonly Option<string?> _valueFile = new("--value-file") { Description = "File that holds the value.", HelpName = "FILE" };

    private readonly Option<string?> _mask = new("--mask")
    {
        Description = "Boolean mask, true where a query may see a key: [batch, heads, queries, keys], leading dimensions absent or 1 where they do not matter.",
        HelpName = "NAME",
    };

    private readonly Option<string?> _bias = new("--bias") { Description = "Additive bias of F32, F16 or BF16, shaped like a mask.", HelpName = "NAME" };

    private readonly Option<string?> _keyLengths = new("--key-lengths")
    {
        Description = "Valid keys of each batch row: a tensor of I32 or I64, or numbers separated by commas.",
        HelpName = "NAME|LIST",
    };

    private readonly Option<string?> _dtype = new("--dtype") { Description = "Convert query, key and value to fp32, fp16 or bf16 first.", HelpName = "TYPE" };
    private readonly Option<string?> _kvDtype = new("--kv-dtype") { Description = "Convert key and value only: to fp32, fp16 or bf16 (16 bits go with fp32 queries), or quantize them to int8, fp8 or q8_0.", HelpName = "TYPE" };
    private readonly Option<string?> _keyScale = new("--key-scale") { Description = "Scales of keys of I8 or F8_E4M3, F32, [batch, keys, heads], absent or 1 where they do not matter; 'k_scale', if it is there, if not given.", HelpName = "NAME" };
    private readonly Option<string?> _valueScale = new("--value-scale") { Description = "The same for values; 'v_scale', if it is there, if not given.", HelpName = "NAME" };

    private Option[] Options => [_query, _key, _value, _queryFile, _keyFile, _valueFile, _mask, _bias, _keyLengths, _dtype, _kvDtype, _keyScale, _valueScale];

    public void AddTo(Command command)
    {
        command.Add(_files);
        foreach (Option option in Options) command.Add(option);
    }

    /// <summary>The files of the command line.</summary>
    public string[] Files(ParseResult parsed) => parsed.GetValue(_files) ?? [];

    /// <summary>Whether the command line has an option about the inputs.</summary>
    public bool HasOptions(ParseResult parsed) => Options.Any(option => parsed.GetResult(option) is { Implicit: false });

    /// <summary>Loads the tensors that the command line names, converted as it asks.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="files">Keeps the files open; other options may name tensors in them.</param>
    /// <param name="options">Given the number of query heads, the options of the call.</param>
    public CallInputs Load(ParseResult parsed, InputFiles files, Func<int, AttentionOptions> options)
    {
        (LoadedTensor query, LoadedTensor key, LoadedTensor value) = LoadQueryKeyValue(parsed, files);
        TensorElementType? type = parsed.GetValue(_dtype) is string dtype ? OptionText.ElementType(_dtype.Name, dtype) : null;
        TensorElementType? kvType = parsed.GetValue(_kvDtype) is string kvDtype ? OptionText.KeyValueType(_kvDtype.Name, kvDtype) : null;
        query = Convert(query, type);
        (key, LoadedTensor? keyScale) = KeysOrValues(files, key, type, kvType, parsed.GetValue(_keyScale), _keyScale, "k_scale");
        (value, LoadedTensor? valueScale) = KeysOrValues(files, value, type, kvType, parsed.GetValue(_valueScale), _valueScale, "v_scale");
        if (query.Rank < 3) throw new UsageException($"The query {query} must be [queries, heads, dim] or [batch, queries, heads, dim].");

        var call = new CallInputs
        {
            Query = query,
            Key = key,
            Value = value,
            KeyScale = keyScale,
            ValueScale = valueScale,
            Mask = parsed.GetValue(_mask) is string mask ? LoadMask(files, mask) : null,
            Bias = parsed.GetValue(_bias) is string bias ? LoadBias(files, bias) : null,
            KeyLengths = parsed.GetValue(_keyLengths) is string lengths ? LoadKeyLengths(files, lengths) : null,
            Options = options((int)query.Shape[^2]),
        };
        CallCheck.Check(call);
        return call;
    }

    private (LoadedTensor Query, LoadedTensor Key, LoadedTensor Value) LoadQueryKeyValue(ParseResult parsed, InputFiles files)
    {
        string[] given = Files(parsed);
        if (given.FirstOrDefault(f => f.StartsWith('-')) is string unknown) throw new UsageException(Suggestions.NoOption(unknown, parsed.CommandResult.Command));
        string?[] apart = [parsed.GetValue(_queryFile), parsed.GetValue(_keyFile), parsed.GetValue(_valueFile)];
        if (given.Length == 2) throw new UsageException("Give one file with query, key and value, or three files in this order; this is two.");
        if (given.Length == 3 && apart.Any(f => f is not null)) throw new UsageException("Give three files or --query-file, --key-file and --value-file, not both.");
        if (given.Length == 3) apart = given;
        if (given.Length == 1) files.Open(given[0]);
        return (
            LoadOne(files, given, apart[0], _query, parsed.GetValue(_query), "q", "query"),
            LoadOne(files, given, apart[1], _key, parsed.GetValue(_key), "k", "key"),
            LoadOne(files, given, apart[2], _value, parsed.GetValue(_value), "v", "value"));
    }

    private static LoadedTensor LoadOne(InputFiles files, string[] given, string? apart, Option option, string? name, string letter, string word)
    {
        if (apart is null && given.Length == 0 && name is null) throw new UsageException($"No {word}: give a FILE, or {option.Name}-file.");
        if (apart is null && name is not null) return files.Read(option.Name, name);
        TensorFile file = files.Open(apart ?? given[0]);
        if (apart is not null && name is null && file.Names.Count == 1) return files.ReadOnlyTensor(apart);
        string? found = name is null ? file.Find(letter) ?? file.Find(word) : file.Find(name);
        return found is not null ? file.Read(found)
            : file is NpyFile ? throw new UsageException($"{file.Path} is one tensor: give three .npy files, query, key and value, or {option.Name}-file for this one.")
            : throw new UsageException($"{file.Path} has no tensor '{name ?? $"{letter}' or '{word}"}': it {Names.Of(file.Names)}. {option.Name} NAME takes another one.");
    }

    private static LoadedTensor Convert(LoadedTensor tensor, TensorElementType? type)
    {
        if (!tensor.ElementType.IsFloatingPoint()) throw new UsageException($"{tensor} does not hold floating-point numbers.");
        if (type is not null) return tensor.ConvertTo(type.Value);
        if (tensor.ElementType == TensorElementType.Float64) throw new UsageException($"{tensor} is in double precision, which attention here is not computed in: convert it with --dtype fp32.");
        return tensor;
    }

    /// <summary>Keys or values as the call has them, with their scales: 8-bit codes and bytes of blocks as they are in the file, numbers converted or quantized.</summary>
    private static (LoadedTensor Tensor, LoadedTensor? Scale) KeysOrValues(
        InputFiles files, LoadedTensor tensor, TensorElementType? type, TensorElementType? kvType, string? scaleName, Option scaleOption, string usualScale)
    {
        if (tensor.ElementType.IsEightBit())
        {
            if (kvType is not null && kvType != tensor.ElementType) throw new UsageException($"{tensor} holds codes of {tensor.ElementType.ShortName()} already, which do not convert to {kvType.Value.ShortName()}.");
            return (tensor, scaleName is not null ? files.Read(scaleOption.Name, scaleName) : files.TryRead(usualScale));
        }

        if (scaleName is not null) throw new UsageException($"{scaleOption.Name} goes with codes of I8 or F8_E4M3, not with {tensor}.");
        if (tensor.ElementType == TensorElementType.UInt8 && kvType == TensorElementType.Q8Block) return (Blocks(tensor), null);
        if (kvType?.IsEightBit() != true) return (Convert(tensor, kvType ?? type), null);
        QuantizedTensor quantized = QuantizedTensor.Of(Convert(tensor, TensorElementType.Float32), kvType.Value);
        return (quantized.Codes, quantized.Scale);
    }

    /// <summary>Bytes of a file as q8_0 blocks, which no file format has a type for.</summary>
    private static LoadedTensor Blocks(LoadedTensor bytes)
    {
        if (bytes.Rank == 0 || bytes.Shape[^1] % Q8Block.SizeInBytes != 0) throw new UsageException($"{bytes} does not hold blocks of q8_0, which are {Q8Block.SizeInBytes} bytes each in its last dimension.");
        return new(bytes.Name, TensorElementType.Q8Block, [.. bytes.Shape[..^1], bytes.Shape[^1] / Q8Block.SizeInBytes], bytes.Bytes.ToArray());
    }

    private LoadedTensor LoadMask(InputFiles files, string name)
    {
        LoadedTensor mask = files.Read(_mask.Name, name);
        return mask.ElementType == TensorElementType.Boolean ? mask : throw new UsageException($"The mask {mask} must be of BOOL; an additive one goes with --bias.");
    }

    private LoadedTensor LoadBias(InputFiles files, string name)
    {
        LoadedTensor bias = files.Read(_bias.Name, name);
        if (bias.ElementType == TensorElementType.Float64) return bias.ConvertTo(TensorElementType.Float32);
        return bias.ElementType.IsFloatingPoint() ? bias : throw new UsageException($"The bias {bias} must be of F32, F16 or BF16; a boolean one goes with --mask.");
    }

    private int[] LoadKeyLengths(InputFiles files, string text)
    {
        if (OptionText.TryWholeNumbers(text) is int[] numbers) return numbers;
        LoadedTensor tensor = files.Read(_keyLengths.Name, text);
        if (tensor.ElementType == TensorElementType.Int32) return tensor.Elements<int>().ToArray();
        if (tensor.ElementType != TensorElementType.Int64) throw new UsageException($"The key lengths {tensor} must be of I32 or I64.");
        // Out of range stays out of range: a length beyond 2^31 is no valid one.
        return [.. tensor.Elements<long>().ToArray().Select(l => (int)Math.Clamp(l, int.MinValue, int.MaxValue))];
    }
}
