using System.CommandLine;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;
using FusedAttention.Cli.Backends;

namespace FusedAttention.Cli.Commands;

/// <summary><c>quantize</c>: the keys and values of a file to 8 bits, and how far they are from what they were.</summary>
internal sealed class QuantizeCommand
{
    private const string Description = """
        Convert the keys and values of a file to 8 bits.

        Codes keep the names of key and value; k_scale and v_scale stand beside them, F32, one for each token and head: the form of the reference set, which run and
        verify read. Blocks of q8_0 hold their scales and are written as bytes (U8); --kv-dtype q8_0 reads them. All other tensors are copied, results too: those of
        the numbers before.

        Examples:
          fused-attention quantize qkv.safetensors qkv-int8.safetensors
          fused-attention quantize qkv.safetensors qkv-q8.safetensors --kv-dtype q8_0
          fused-attention run qkv-int8.safetensors --causal --output o.safetensors
        """;

    private static readonly string[] KeyNames = ["k", "key", "k_cache"], ValueNames = ["v", "value", "v_cache"];

    private readonly Argument<string> _input = new("IN") { Description = ".safetensors or .npz file with key and value." };
    private readonly Argument<string> _output = new("OUT") { Description = ".safetensors file to write." };
    private readonly Option<string> _type = new("--kv-dtype") { Description = "int8, fp8 (E4M3) or q8_0.", HelpName = "TYPE", DefaultValueFactory = _ => "int8" };
    private readonly Option<string?> _key = new("--key", "-k") { Description = "Name of the key tensor; 'k', 'key' or 'k_cache' if not given.", HelpName = "NAME" };
    private readonly Option<string?> _value = new("--value", "-v") { Description = "Name of the value tensor; 'v', 'value' or 'v_cache' if not given.", HelpName = "NAME" };
    private readonly Option<bool> _json = JsonReport.NewOption();
    private readonly ToolConsole _console;

    private QuantizeCommand(ToolConsole console) => _console = console;

    public static Command Create(ToolConsole console, BackendCatalog backends)
    {
        var quantize = new QuantizeCommand(console);
        var command = new ToolCommand("quantize", Description) { quantize._input, quantize._output, quantize._type, quantize._key, quantize._value, quantize._json };
        return command.WithAction(console, backends, quantize.Execute);
    }

    private int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        TensorElementType type = OptionText.EightBits(_type.Name, parsed.GetValue(_type)!);
        string output = parsed.GetRequiredValue(_output);
        using var files = new InputFiles();
        TensorFile file = files.Open(parsed.GetRequiredValue(_input));
        if (!Path.GetExtension(output).Equals(".safetensors", StringComparison.OrdinalIgnoreCase)) throw new UsageException($"{output} must end in .safetensors.");
        files.CheckOutput(output, output);

        string keyName = Find(file, parsed.GetValue(_key), KeyNames, _key), valueName = Find(file, parsed.GetValue(_value), ValueNames, _value);
        if (keyName.Equals(valueName, StringComparison.Ordinal)) throw new UsageException($"'{keyName}' cannot be key and value at once.");
        foreach (string scale in (ReadOnlySpan<string>)["k_scale", "v_scale"])
        {
            if (file.Contains(scale)) throw new UsageException($"{file.Path} has a tensor '{scale}' already.");
        }

        QuantizedPart key = QuantizedPart.Of(file.Read(keyName), type, "k_scale");
        cancellation.ThrowIfCancellationRequested();
        QuantizedPart value = QuantizedPart.Of(file.Read(valueName), type, "v_scale");
        cancellation.ThrowIfCancellationRequested();
        SafeTensorsWriter.Write(
            output,
            [.. file.Names.Where(name => !name.Equals(keyName, StringComparison.Ordinal) && !name.Equals(valueName, StringComparison.Ordinal)).Select(file.Read), .. key.Tensors, .. value.Tensors],
            Metadata(file, type));
        if (parsed.GetValue(_json)) _console.Line(JsonReport.OfQuantize(output, key, value));
        else Report(output, key, value);
        return ExitCode.Success;
    }

    private void Report(string output, QuantizedPart key, QuantizedPart value)
    {
        _console.Table(["tensor", "from", "to", "bytes before", "bytes after", "max abs error", "rms error", "share of rms"], [Row("key", key), Row("value", value)]);
        foreach (QuantizedPart part in (ReadOnlySpan<QuantizedPart>)[key, value])
        {
            if (part.NotFinite > 0) _console.Line($"{part.From} has {part.NotFinite} numbers that are not finite: what became of their rows is unspecified, and they are not counted.");
        }

        _console.Line($"written to {output}");

        static string[] Row(string name, QuantizedPart part) =>
        [
            name, part.From.ToString(), part.Type.ShortName(), part.From.Bytes.Length.ToString(), part.Tensors.Sum(static tensor => (long)tensor.Bytes.Length).ToString(),
            OptionText.Error(part.MaxAbsolute), OptionText.Error(part.RootMeanSquare), OptionText.Error(part.Relative),
        ];
    }

    private static string Find(TensorFile file, string? given, string[] usual, Option option)
    {
        string? found = given is not null ? file.Find(given) : usual.Select(file.Find).FirstOrDefault(static name => name is not null);
        return found ?? throw new UsageException($"{file.Path} has no tensor '{given ?? string.Join("', '", usual)}': it {Names.Of(file.Names)}. {option.Name} NAME takes another one.");
    }

    /// <summary>What the file had, and what the reference form says of its keys and values.</summary>
    private static Dictionary<string, string> Metadata(TensorFile file, TensorElementType type)
    {
        var metadata = new Dictionary<string, string>(file.Metadata, StringComparer.Ordinal)
        {
            ["kv_dtype"] = type switch { TensorElementType.Int8 => "int8", TensorElementType.Float8E4M3 => "e4m3", _ => "q8_0" },
        };
        if (type != TensorElementType.Q8Block) metadata["k_scale_kind"] = metadata["v_scale_kind"] = "token_head";
        return metadata;
    }
}
