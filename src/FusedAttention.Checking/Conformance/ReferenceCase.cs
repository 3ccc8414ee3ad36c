using System.Collections.Frozen;
using System.Globalization;
using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Checking.Conformance;

/// <summary>A file that is not of the reference form; the message says why.</summary>
public sealed class NotReferenceFormException(string reason) : Exception(reason);

/// <summary>
/// One case of the reference form: inputs, options and expected results of one attention call, as tensors and string metadata of one safetensors file.
/// </summary>
public sealed class ReferenceCase
{
    private readonly FrozenDictionary<string, LoadedTensor> _tensors;
    private readonly FrozenDictionary<string, string> _metadata;

    public ReferenceCase(string name, IEnumerable<LoadedTensor> tensors, IReadOnlyDictionary<string, string> metadata)
    {
        _tensors = tensors.ToFrozenDictionary(t => t.Name, StringComparer.Ordinal);
        _metadata = metadata.ToFrozenDictionary(StringComparer.Ordinal);
        Name = name;
        Group = _metadata.GetValueOrDefault("group", "other");
        Layout = Text("layout") switch
        {
            "dense" => SequenceLayout.Dense,
            "varlen" => SequenceLayout.VariableLength,
            "paged" => SequenceLayout.Paged,
            string other => throw new NotReferenceFormException($"layout is '{other}', not dense, varlen or paged"),
        };
        ElementType = TypeOf(Text("dtype"));
        KeyValueType = KeyValueTypeOf(_metadata, ElementType);
        Query = Tensor("q", ElementType);
        Key = Tensor(Layout == SequenceLayout.Paged ? "k_cache" : "k", KeyValueType);
        Value = Tensor(Layout == SequenceLayout.Paged ? "v_cache" : "v", KeyValueType);
        CheckRanks();
        Options = ReadOptions();
    }

    public string Name { get; }

    public string Group { get; }

    public SequenceLayout Layout { get; }

    /// <summary>Element type of query and output.</summary>
    public TensorElementType ElementType { get; }

    /// <summary>Element type of key and value: that of the query, or one of 8 bits.</summary>
    public TensorElementType KeyValueType { get; }

    /// <summary>Scale, mask, alignment, ALiBi, soft cap, sinks and functions; the caller adds how to run it.</summary>
    public AttentionOptions Options { get; }

    public LoadedTensor Query { get; }

    /// <summary><c>k</c>, or the key cache of a paged case.</summary>
    public LoadedTensor Key { get; }

    /// <summary><c>v</c>, or the value cache of a paged case.</summary>
    public LoadedTensor Value { get; }

    public LoadedTensor? KeyScale => Optional("k_scale", TensorElementType.Float32);

    public LoadedTensor? ValueScale => Optional("v_scale", TensorElementType.Float32);

    public LoadedTensor? Bias => _tensors.GetValueOrDefault("bias");

    public LoadedTensor? Mask => Optional("mask", TensorElementType.Boolean);

    public ReadOnlySpan<int> KeyLengths => Integers("seqlens_kv");

    public ReadOnlySpan<int> CumulativeQueryLengths => Integers("cu_seqlens_q");

    public ReadOnlySpan<int> CumulativeKeyLengths => Integers("cu_seqlens_kv");

    public ReadOnlySpan<int> BlockTables => Integers("block_tables");

    public int MaxBlocksPerSequence => (int)Tensor("block_tables", TensorElementType.Int32).Shape[1];

    public ReadOnlySpan<int> ContextLengths => Integers("context_lens");

    public LoadedTensor? ExpectedOutput => Optional("o", TensorElementType.Float32);

    public LoadedTensor? ExpectedLogSumExp => Optional("lse", TensorElementType.Float64);

    public LoadedTensor? ExpectedLogSumExpOfKeys => Optional("lse_excl_sink", TensorElementType.Float64);

    /// <summary>The error of an emulated plain kernel of this element type, on which the limit is built; null when the file does not say.</summary>
    public double? EmulatedError => _metadata.TryGetValue("emulated_max_abs_err", out string? text) ? Number(text, "emulated_max_abs_err") : null;

    /// <summary>Reads a case.</summary>
    /// <exception cref="NotReferenceFormException">The file is sound, but holds something else.</exception>
    /// <exception cref="TensorFileException">The file is damaged.</exception>
    public static ReferenceCase Load(string path)
    {
        using var file = new SafeTensorsFile(path);
        foreach (string required in (ReadOnlySpan<string>)["layout", "dtype", "scale", "causal", "align"])
        {
            if (!file.Metadata.ContainsKey(required)) throw new NotReferenceFormException($"the metadata has no '{required}'");
        }

        return new(Path.GetFileNameWithoutExtension(path), file.Names.Select(file.Read), file.Metadata);
    }

    internal static TensorElementType TypeOf(string dtype) => dtype switch
    {
        "fp32" => TensorElementType.Float32,
        "fp16" => TensorElementType.Float16,
        "bf16" => TensorElementType.BFloat16,
        _ => throw new NotReferenceFormException($"dtype is '{dtype}', not fp32, fp16 or bf16"),
    };

    internal static TensorElementType KeyValueTypeOf(IReadOnlyDictionary<string, string> metadata, TensorElementType absent) => metadata.GetValueOrDefault("kv_dtype") switch
    {
        null => absent,
        "int8" => TensorElementType.Int8,
        "e4m3" => TensorElementType.Float8E4M3,
        string other => throw new NotReferenceFormException($"kv_dtype is '{other}', not int8 or e4m3"),
    };

    private AttentionOptions ReadOptions()
    {
        int left = WholeNumber("window_left", -1);
        int right = WholeNumber("window_right", -1);
        AttentionMask mask = AttentionMask.Window(left < 0 ? null : left, right < 0 ? null : right);
        string align = Text("align");
        var functions = new ReferenceFunctions(_metadata, Tensor, (int)Query.Shape[^2]);
        try
        {
            return new()
            {
                Scale = (float)Number(Text("scale"), "scale"),
                Mask = WholeNumber("causal", 0) != 0 ? mask.AndCausal() : mask,
                Alignment = align switch
                {
                    "top_left" => AttentionAlignment.TopLeft,
                    "bottom_right" => AttentionAlignment.BottomRight,
                    _ => throw new NotReferenceFormException($"align is '{align}', not top_left or bottom_right"),
                },
                SoftCap = (float)Number(_metadata.GetValueOrDefault("softcap", "0"), "softcap"),
                AlibiSlopes = [.. Floats("alibi_slopes")],
                SinkLogits = [.. Floats("sink")],
                ScoreFunction = functions.Score,
                MaskFunction = functions.Mask,
            };
        }
        catch (ArgumentException e)
        {
            throw new NotReferenceFormException(e.Message);
        }
    }

    private void CheckRanks()
    {
        int query = Layout == SequenceLayout.Dense ? 4 : 3;
        int key = Layout == SequenceLayout.VariableLength ? 3 : 4;
        if (Query.Rank != query || Key.Rank != key || Value.Rank != key)
            throw new NotReferenceFormException($"a {Layout} case has q of rank {query} and k, v of rank {key}, not {Query}, {Key}, {Value}");
        // Only what the tools here index by themselves; everything else is the library's to check.
        if (Layout != SequenceLayout.Dense) Tensor("cu_seqlens_q", TensorElementType.Int32);
        if (Layout == SequenceLayout.VariableLength) Tensor("cu_seqlens_kv", TensorElementType.Int32);
        if (Layout != SequenceLayout.Paged) return;
        Tensor("context_lens", TensorElementType.Int32);
        if (Tensor("block_tables", TensorElementType.Int32) is { Rank: not 2 } tables) throw new NotReferenceFormException($"{tables} is not of rank 2");
    }

    private LoadedTensor Tensor(string name, TensorElementType type)
        => Optional(name, type) ?? throw new NotReferenceFormException($"there is no tensor '{name}'");

    private LoadedTensor? Optional(string name, TensorElementType type)
    {
        if (!_tensors.TryGetValue(name, out LoadedTensor? tensor)) return null;
        return tensor.ElementType == type ? tensor : throw new NotReferenceFormException($"{tensor} is not of {type.SafeTensorsName()}");
    }

    private ReadOnlySpan<int> Integers(string name) => Optional(name, TensorElementType.Int32) is LoadedTensor tensor ? tensor.Elements<int>() : default;

    private ReadOnlySpan<float> Floats(string name) => Optional(name, TensorElementType.Float32) is LoadedTensor tensor ? tensor.Elements<float>() : default;

    private string Text(string name) => _metadata.GetValueOrDefault(name) ?? throw new NotReferenceFormException($"the metadata has no '{name}'");

    private int WholeNumber(string name, int absent)
    {
        if (!_metadata.TryGetValue(name, out string? text)) return absent;
        return int.TryParse(text, NumberStyles.Integer, CultureInfo.InvariantCulture, out int value)
            ? value
            : throw new NotReferenceFormException($"{name} is '{text}', not a whole number");
    }

    private static double Number(string text, string name) => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double value)
        ? value
        : throw new NotReferenceFormException($"{name} is '{text}', not a number");
}
