using FusedAttention.Tensors;

namespace FusedAttention.Problems;

/// <summary>The layouts that an <see cref="AttentionShape"/> gives to the four tensors, with its numbers checked.</summary>
internal readonly unsafe struct ShapeLayouts
{
    public TensorLayout Query { get; private init; }

    public TensorLayout Key { get; private init; }

    public TensorLayout Value { get; private init; }

    public TensorLayout Output { get; private init; }

    /// <summary>The layouts of a call on keys and values of a type: where that has blocks of numbers, their strides and last dimensions count blocks.</summary>
    public static ShapeLayouts Of<TKeyValue>(in AttentionShape shape)
        where TKeyValue : unmanaged
    {
        int numbers = ElementTypes.OfKeyValue<TKeyValue>("key").Numbers();
        NotNegative(shape.Batch, nameof(shape.Batch));
        NotNegative(shape.QueryLength, nameof(shape.QueryLength));
        NotNegative(shape.KeyLength, nameof(shape.KeyLength));
        ArgumentChecks.Heads(shape.QueryHeads, shape.KeyValueHeads, "shape", "shape");
        ArgumentChecks.Dim(shape.KeyDim, "shape", "key dimension");
        ArgumentChecks.Dim(shape.ValueDim, "shape", "value dimension");
        if (shape.KeyDim % numbers != 0 || shape.ValueDim % numbers != 0)
        {
            ArgumentChecks.Throw($"shape has a key dimension of {shape.KeyDim} and a value dimension of {shape.ValueDim}; in blocks of {numbers} numbers both must be multiples of {numbers}.", "shape");
        }

        NotNegative(shape.QueryStrides, nameof(shape.QueryStrides));
        NotNegative(shape.KeyStrides, nameof(shape.KeyStrides));
        NotNegative(shape.ValueStrides, nameof(shape.ValueStrides));
        NotNegative(shape.OutputStrides, nameof(shape.OutputStrides));
        return new ShapeLayouts
        {
            Query = LayoutOf(shape.Batch, shape.QueryLength, shape.QueryHeads, shape.KeyDim, shape.QueryStrides),
            Key = LayoutOf(shape.Batch, shape.KeyLength, shape.KeyValueHeads, shape.KeyDim / numbers, shape.KeyStrides),
            Value = LayoutOf(shape.Batch, shape.KeyLength, shape.KeyValueHeads, shape.ValueDim / numbers, shape.ValueStrides),
            Output = LayoutOf(shape.Batch, shape.QueryLength, shape.QueryHeads, shape.ValueDim, shape.OutputStrides),
        };
    }

    public static void CheckLength(int length, in TensorLayout layout, string name)
    {
        long extent = layout.Extent;
        if (length < extent) ArgumentChecks.Throw($"{name} has {length} elements; its shape {layout} reaches over {extent}.", name);
    }

    public static void CheckPointer(void* pointer, in TensorLayout layout, string name)
    {
        if (pointer == null && layout.Extent > 0) throw new ArgumentNullException(name, $"{name} is null, but its shape {layout} has elements.");
    }

    /// <summary>A tensor [batch, token, head, dim]; default strides are contiguous ones.</summary>
    private static TensorLayout LayoutOf(long batch, long tokens, long heads, long dim, in AttentionStrides strides)
    {
        AttentionStrides s = strides == default ? new(tokens * heads * dim, heads * dim, dim) : strides;
        return TensorLayout.Of(batch, tokens, heads, dim, s.Batch, s.Token, s.Head);
    }

    private static void NotNegative(int value, string name)
    {
        if (value < 0) ArgumentChecks.Throw($"{name} is {value}; expected 0 or more.", "shape");
    }

    private static void NotNegative(in AttentionStrides strides, string name)
    {
        if (strides.Batch < 0 || strides.Token < 0 || strides.Head < 0) ArgumentChecks.Throw($"{name} is {strides}; expected strides of 0 or more elements.", "shape");
    }
}
