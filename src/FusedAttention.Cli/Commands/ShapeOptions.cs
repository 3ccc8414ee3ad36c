using System.CommandLine;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>The sizes and types of a call without files: what <c>bench</c> and <c>explain</c> work on.</summary>
internal sealed class ShapeOptions
{
    /// <summary>Plans list sequences one by one: these take half a second; ten million took a minute, before the size of the tensors was ever looked at.</summary>
    private const int MostSequences = 100_000;

    /// <summary>The library's own limit.</summary>
    private const int MostDim = 4096;

    private readonly Option<int> _batch = Size("--batch", "Sequences.", 1, MostSequences);
    private readonly Option<int> _queryHeads = Size("--query-heads", "Query heads.", 8);
    private readonly Option<int?> _kvHeads = new Option<int?>("--kv-heads") { Description = "Key/value heads; as many as query heads if not given.", HelpName = "N" }.WholeNumber();
    private readonly Option<int> _queryLength = Size("--query-length", "Query tokens a sequence; 1 is decoding.", 1024);
    private readonly Option<int?> _keyLength = new Option<int?>("--key-length") { Description = "Keys a sequence; as many as queries if not given.", HelpName = "N" }.WholeNumber();
    private readonly Option<int> _dim = Size("--dim", "Elements of a query or key of one head.", 128, MostDim);
    private readonly Option<int?> _valueDim = new Option<int?>("--value-dim") { Description = "Elements of a value of one head; as --dim if not given.", HelpName = "N" }.WholeNumber(1, MostDim);
    private readonly Option<string> _dtype = new("--dtype") { Description = "fp32, fp16 or bf16.", HelpName = "TYPE", DefaultValueFactory = _ => "fp32" };
    private readonly Option<string?> _kvDtype = new("--kv-dtype") { Description = "Type of keys and values; as --dtype if not given. fp16 and bf16 go with fp32 queries; int8, fp8 (scales beside them) and q8_0 (blocks of 32) with any.", HelpName = "TYPE" };

    private readonly Option<string> _mask = new("--mask")
    {
        Description = "full, causal, window:LEFT,RIGHT or causal+window:LEFT,RIGHT (* for all).",
        HelpName = "MASK",
        DefaultValueFactory = _ => "full",
    };

    private readonly Option<int?> _paged = new Option<int?>("--paged") { Description = "Keys and values in a paged cache with blocks of this many tokens, in shuffled order.", HelpName = "BLOCK" }.WholeNumber();

    private readonly Option<string?> _score = new("--score")
    {
        Description = $"Score and mask functions, joined by +: {string.Join(", ", NamedFunctions.Names)}; alibi is the built-in one that linear says as a function.",
        HelpName = "NAME",
    };

    private Option[] All => [_batch, _queryHeads, _kvHeads, _queryLength, _keyLength, _dim, _valueDim, _dtype, _kvDtype, _mask, _paged, _score];

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
        return new CallShape
        {
            Batch = parsed.GetValue(_batch),
            QueryHeads = queryHeads,
            KeyValueHeads = parsed.GetValue(_kvHeads) ?? queryHeads,
            QueryLength = queryLength,
            KeyLength = parsed.GetValue(_keyLength) ?? queryLength,
            KeyDim = dim,
            ValueDim = parsed.GetValue(_valueDim) ?? dim,
            QueryType = type,
            KeyValueType = parsed.GetValue(_kvDtype) is string kv ? OptionText.KeyValueType(_kvDtype.Name, kv) : type,
            Mask = OptionText.PositionMask(_mask.Name, parsed.GetValue(_mask)!),
            BlockSize = parsed.GetValue(_paged),
            Score = parsed.GetValue(_score),
        };
    }

    private static Option<int> Size(string name, string description, int initial, int most = int.MaxValue)
        => new Option<int>(name) { Description = description, HelpName = "N", DefaultValueFactory = _ => initial }.WholeNumber(1, most);
}
