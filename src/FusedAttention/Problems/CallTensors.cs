using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>The tensors of one call: what the door hands to <see cref="ProblemBuilder"/>, whatever overload it came through.</summary>
internal unsafe struct CallTensors
{
    public TensorArgument Query;
    public TensorArgument Key;
    public TensorArgument Value;
    public TensorArgument Output;
    public TensorArgument Mask;
    public TensorArgument Bias;
    public TensorArgument LogSumExp;
    public TensorArgument KeyScale;
    public TensorArgument ValueScale;

    /// <exception cref="ArgumentException">Keys and values of this type do not go with the query's.</exception>
    public static CallTensors Of(in TensorArgument query, in TensorArgument key, in TensorArgument value, in TensorArgument output)
    {
        ArgumentChecks.TypePair(query.Type, key.Type, key.Name);
        return new() { Query = query, Key = key, Value = value, Output = output };
    }

    /// <summary>The same with the operands' tensors, which are pinned at these addresses.</summary>
    public readonly CallTensors With(bool* mask, byte* bias, float* logSumExp, scoped in AttentionOperands operands, float* keyScale = null, float* valueScale = null) => this with
    {
        Mask = TensorArgument.OfMask(mask, TensorLayout.Of(operands.BooleanMask)),
        Bias = TensorArgument.Of(bias, operands.Bias.Layout, operands.Bias.ElementType, "Bias"),
        LogSumExp = TensorArgument.Of(logSumExp, TensorLayout.Of(operands.LogSumExp), "LogSumExp"),
        KeyScale = TensorArgument.Of(keyScale, TensorLayout.Of(operands.KeyScale), "KeyScale"),
        ValueScale = TensorArgument.Of(valueScale, TensorLayout.Of(operands.ValueScale), "ValueScale"),
    };
}
