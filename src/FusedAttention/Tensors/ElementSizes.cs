namespace FusedAttention.Tensors;

/// <summary>Sizes of element types.</summary>
internal static class ElementSizes
{
    /// <summary>Bytes of an element.</summary>
    public static int Size(this AttentionElementType type) => type == AttentionElementType.Float32 ? sizeof(float) : sizeof(ushort);
}
