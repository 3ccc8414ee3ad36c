namespace FusedAttention.Tensors;

/// <summary>A tensor of a call as a door hands it on: where its elements are, how they lie, and what to call it in messages. All zeros when absent.</summary>
internal unsafe struct TensorArgument
{
    /// <summary>The first element; valid during the call only. Null where there is only a shape yet.</summary>
    public byte* Pointer;

    public TensorLayout Layout;

    /// <summary>Of masks, which have bytes, it says nothing.</summary>
    public AttentionElementType Type;

    public int ElementBytes;

    /// <summary>The caller's name for it.</summary>
    public string Name;

    public readonly bool IsAbsent => Layout.IsAbsent;

    /// <exception cref="ArgumentException">Attention does not compute on elements of <typeparamref name="T"/>.</exception>
    public static TensorArgument Of<T>(T* pointer, in TensorLayout layout, string name)
        where T : unmanaged
        => Of(pointer, layout, ElementTypes.Of<T>(name), name);

    /// <summary>The same for keys and values, which may be of 8 bits.</summary>
    /// <exception cref="ArgumentException">Attention does not compute on elements of <typeparamref name="T"/>.</exception>
    public static TensorArgument OfKeyValue<T>(T* pointer, in TensorLayout layout, string name)
        where T : unmanaged
        => Of(pointer, layout, ElementTypes.OfKeyValue<T>(name), name);

    public static TensorArgument Of(void* pointer, in TensorLayout layout, AttentionElementType type, string name) =>
        new() { Pointer = (byte*)pointer, Layout = layout, Type = type, ElementBytes = type.Size(), Name = name };

    public static TensorArgument OfMask(bool* pointer, in TensorLayout layout) =>
        new() { Pointer = (byte*)pointer, Layout = layout, ElementBytes = sizeof(bool), Name = "BooleanMask" };
}
