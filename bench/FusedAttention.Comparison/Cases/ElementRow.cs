using System.Numerics.Tensors;

namespace FusedAttention.Comparison.Cases;

/// <summary>Runs of elements of a type known at run time, from and to single precision.</summary>
internal static unsafe class ElementRow
{
    public static void Store(AttentionElementType type, ReadOnlySpan<float> source, AlignedBuffer destination, long start)
    {
        switch (type)
        {
            case AttentionElementType.Float32:
                source.CopyTo(destination.Elements<float>(start, source.Length));
                break;
            case AttentionElementType.Float16:
                TensorPrimitives.ConvertToHalf(source, destination.Elements<Half>(start, source.Length));
                break;
            default:
                Span<BFloat16> row = destination.Elements<BFloat16>(start, source.Length);
                for (int i = 0; i < row.Length; i++) row[i] = (BFloat16)source[i];
                break;
        }
    }

    public static void Load(AttentionElementType type, AlignedBuffer source, long start, Span<float> destination)
    {
        int size = type == AttentionElementType.Float32 ? sizeof(float) : sizeof(ushort);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((start + destination.Length) * size, source.Length);
        Load(type, source.Pointer + (start * size), destination);
    }

    /// <param name="type">The type of the elements.</param>
    /// <param name="source">As many elements as <paramref name="destination"/> has.</param>
    /// <param name="destination">The same numbers.</param>
    public static void Load(AttentionElementType type, byte* source, Span<float> destination)
    {
        switch (type)
        {
            case AttentionElementType.Float32:
                new ReadOnlySpan<float>(source, destination.Length).CopyTo(destination);
                break;
            case AttentionElementType.Float16:
                TensorPrimitives.ConvertToSingle(new ReadOnlySpan<Half>(source, destination.Length), destination);
                break;
            default:
                var row = new ReadOnlySpan<BFloat16>(source, destination.Length);
                for (int i = 0; i < row.Length; i++) destination[i] = row[i];
                break;
        }
    }

    /// <summary>The nearest values that the type has.</summary>
    public static void Round(AttentionElementType type, Span<float> values)
    {
        if (type == AttentionElementType.Float32) return;
        foreach (ref float value in values) value = type == AttentionElementType.Float16 ? (float)(Half)value : (BFloat16)value;
    }
}
