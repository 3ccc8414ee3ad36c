using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>The tensors of one call, pinned: what the door hands to <see cref="ProblemBuilder"/>, whatever overload it came through.</summary>
internal unsafe struct CallTensors
{
    public AttentionElementType QueryType;
    public AttentionElementType KeyValueType;
    public byte* Query;
    public byte* Key;
    public byte* Value;
    public byte* Output;
    public TensorLayout QueryLayout;
    public TensorLayout KeyLayout;
    public TensorLayout ValueLayout;
    public TensorLayout OutputLayout;

    // The caller's names of key and value, for messages: "key" or "keyCache".
    public string KeyName;
    public string ValueName;

    public byte* Mask;
    public TensorLayout MaskLayout;
    public byte* Bias;
    public TensorLayout BiasLayout;
    public AttentionElementType BiasType;
    public float* LogSumExp;
    public TensorLayout LogSumExpLayout;

    public static CallTensors Of<TQuery, TKeyValue>(
        TQuery* query, in TensorLayout queryLayout,
        TKeyValue* key, in TensorLayout keyLayout, string keyName,
        TKeyValue* value, in TensorLayout valueLayout, string valueName,
        TQuery* output, in TensorLayout outputLayout,
        byte* mask, byte* bias, float* logSumExp, scoped in AttentionOperands operands)
        where TQuery : unmanaged
        where TKeyValue : unmanaged
    {
        var tensors = new CallTensors
        {
            QueryType = ElementTypes.Of<TQuery>("query"),
            KeyValueType = ElementTypes.Of<TKeyValue>(keyName),
            Query = (byte*)query,
            Key = (byte*)key,
            Value = (byte*)value,
            Output = (byte*)output,
            QueryLayout = queryLayout,
            KeyLayout = keyLayout,
            ValueLayout = valueLayout,
            OutputLayout = outputLayout,
            KeyName = keyName,
            ValueName = valueName,
            Mask = mask,
            MaskLayout = TensorLayout.Of(operands.BooleanMask),
            Bias = bias,
            BiasLayout = operands.Bias.Layout,
            BiasType = operands.Bias.ElementType,
            LogSumExp = logSumExp,
            LogSumExpLayout = TensorLayout.Of(operands.LogSumExp),
        };
        ArgumentChecks.TypePair(tensors.QueryType, tensors.KeyValueType, keyName);
        return tensors;
    }
}
