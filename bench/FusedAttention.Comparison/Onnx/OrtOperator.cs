using FusedAttention.Comparison.Cases;
using FusedAttention.Comparison.Contenders;

namespace FusedAttention.Comparison.Onnx;

/// <summary>An operator with its attributes, and its inputs and outputs in memory, for one case.</summary>
internal sealed unsafe class OrtOperator : IDisposable
{
    private readonly List<AlignedBuffer> _owned = [];
    private readonly OnnxType _type;

    private OrtOperator(AttentionCase attentionCase)
    {
        _type = attentionCase.Type switch
        {
            AttentionElementType.Float32 => OnnxType.Float,
            AttentionElementType.Float16 => OnnxType.Float16,
            _ => OnnxType.BFloat16,
        };
        Result = Own(attentionCase.QueryElements * attentionCase.ElementSize);
    }

    public required string Name { get; init; }

    public string Domain { get; init; } = "com.microsoft";

    public int Opset { get; init; } = 17;

    public List<OnnxAttribute> Attributes { get; } = [];

    public List<(OnnxValue Value, nint Address)> Inputs { get; } = [];

    public List<(OnnxValue Value, nint Address)> Outputs { get; } = [];

    public bool IsOutputHeadMajor { get; init; }

    public AlignedBuffer Result { get; }

    /// <summary>Always causal. Decoding reads a head-major cache that is past and present at once; the last token comes on its own and is written to its place there.</summary>
    public static OrtOperator GroupQueryAttention(AttentionCase c, CaseInputs inputs)
    {
        if (!c.IsCausal && c.Queries > 1) throw new NotOfferedException("always causal");
        bool isDecode = c.Queries < c.Keys;
        var op = new OrtOperator(c) { Name = "GroupQueryAttention" };
        AlignedBuffer keyCache = isDecode ? inputs.KeyHeadMajor : op.Own(c.KeyElements * c.ElementSize);
        AlignedBuffer valueCache = isDecode ? inputs.ValueHeadMajor : op.Own(c.KeyElements * c.ElementSize);
        AlignedBuffer lengths = op.Own(2 * sizeof(int));
        lengths.Elements<int>(0, 2)[0] = c.Keys - 1;
        lengths.Elements<int>(0, 2)[1] = c.Keys;
        long newTokens = (long)(c.Keys - c.Queries) * c.KeyValueHeads * c.Dim * c.ElementSize;
        long past = isDecode ? c.Keys : 0;

        op.Input("query", inputs.Query, 1, c.Queries, (long)c.QueryHeads * c.Dim);
        op.Inputs.Add((op.Value("key", 1, c.Queries, (long)c.KeyValueHeads * c.Dim), (nint)(inputs.Key.Pointer + newTokens)));
        op.Inputs.Add((op.Value("value", 1, c.Queries, (long)c.KeyValueHeads * c.Dim), (nint)(inputs.Value.Pointer + newTokens)));
        op.Input("past_key", keyCache, 1, c.KeyValueHeads, past, c.Dim);
        op.Input("past_value", valueCache, 1, c.KeyValueHeads, past, c.Dim);
        op.Inputs.Add((new("seqlens_k", OnnxType.Int32, 1), (nint)lengths.Pointer));
        op.Inputs.Add((new("total_sequence_length", OnnxType.Int32, 1), (nint)(lengths.Pointer + sizeof(int))));
        op.Output("output", op.Result, 1, c.Queries, (long)c.QueryHeads * c.Dim);
        op.Output("present_key", keyCache, 1, c.KeyValueHeads, c.Keys, c.Dim);
        op.Output("present_value", valueCache, 1, c.KeyValueHeads, c.Keys, c.Dim);
        op.Attributes.Add(new("num_heads", c.QueryHeads));
        op.Attributes.Add(new("kv_num_heads", c.KeyValueHeads));
        op.Attributes.Add(new("scale", 0, c.Scale));
        return op;
    }

    /// <summary>Token-major inputs, one key/value head a query head.</summary>
    public static OrtOperator MultiHeadAttention(AttentionCase c, CaseInputs inputs)
    {
        if (c.QueryHeads != c.KeyValueHeads) throw new NotOfferedException("no grouped heads");
        var op = new OrtOperator(c) { Name = "MultiHeadAttention" };
        op.Input("query", inputs.Query, 1, c.Queries, (long)c.QueryHeads * c.Dim);
        op.Input("key", inputs.Key, 1, c.Keys, (long)c.KeyValueHeads * c.Dim);
        op.Input("value", inputs.Value, 1, c.Keys, (long)c.KeyValueHeads * c.Dim);
        op.Output("output", op.Result, 1, c.Queries, (long)c.QueryHeads * c.Dim);
        op.Attributes.Add(new("num_heads", c.QueryHeads));
        op.Attributes.Add(new("unidirectional", c.IsCausal ? 1 : 0));
        op.Attributes.Add(new("scale", 0, c.Scale));
        return op;
    }

    /// <summary>ONNX's own operator, on head-major inputs, so that it has nothing to transpose.</summary>
    public static OrtOperator Attention(AttentionCase c, CaseInputs inputs)
    {
        var op = new OrtOperator(c) { Name = "Attention", Domain = "", Opset = 23, IsOutputHeadMajor = true };
        op.Input("query", inputs.QueryHeadMajor, 1, c.QueryHeads, c.Queries, c.Dim);
        op.Input("key", inputs.KeyHeadMajor, 1, c.KeyValueHeads, c.Keys, c.Dim);
        op.Input("value", inputs.ValueHeadMajor, 1, c.KeyValueHeads, c.Keys, c.Dim);
        op.Output("output", op.Result, 1, c.QueryHeads, c.Queries, c.Dim);
        op.Attributes.Add(new("is_causal", c.IsCausal ? 1 : 0));
        op.Attributes.Add(new("scale", 0, c.Scale));
        return op;
    }

    public void Dispose()
    {
        foreach (AlignedBuffer buffer in _owned) buffer.Dispose();
    }

    private AlignedBuffer Own(long bytes)
    {
        var buffer = new AlignedBuffer(bytes);
        _owned.Add(buffer);
        return buffer;
    }

    private OnnxValue Value(string name, params long[] dims) => new(name, _type, dims);

    private void Input(string name, AlignedBuffer buffer, params long[] dims) => Inputs.Add((Value(name, dims), (nint)buffer.Pointer));

    private void Output(string name, AlignedBuffer buffer, params long[] dims) => Outputs.Add((Value(name, dims), (nint)buffer.Pointer));
}
