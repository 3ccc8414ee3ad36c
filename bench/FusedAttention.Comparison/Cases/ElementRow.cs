using System.Numerics.Tensors;

namespace FusedAttention.Comparison.Cases;

/// <summary>Runs of elements of a type known at run time, from and to single precision.</summary>
internal static unsafe class ElementRow
{
    /// <summary>Bytes of <paramref name="count"/> numbers; of <see cref="Q8Block"/> whole blocks.</summary>
    public static long Bytes(AttentionElementType type, long count) => type switch
    {
        AttentionElementType.Float32 => count * sizeof(float),
        AttentionElementType.Int8 => count,
        AttentionElementType.Q8Block => count / Q8Block.Length * Q8Block.SizeInBytes,
        _ => count * sizeof(ushort),
    };

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
            case AttentionElementType.Q8Block:
                KeyValueQuantization.ToQ8Blocks(source, destination.Elements<Q8Block>(start / Q8Block.Length, source.Length / Q8Block.Length));
                break;
            default:
                Span<BFloat16> row = destination.Elements<BFloat16>(start, source.Length);
                for (int i = 0; i < row.Length; i++) row[i] = (BFloat16)source[i];
                break;
        }
    }

    public static void Load(AttentionElementType type, AlignedBuffer source, long start, Span<float> destination)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(Bytes(type, start + destination.Length), source.Length);
        Load(type, source.Pointer + Bytes(type, start), destination);
    }

    /// <param name="type">The type of the elements.</param>
    /// <param name="source">As many elements as <paramref name="destination"/> has.</param>
    /// <param name="destination">The same numbers; of <see cref="AttentionElementType.Int8"/> the codes.</param>
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
            case AttentionElementType.Int8:
                for (int i = 0; i < destination.Length; i++) destination[i] = ((sbyte*)source)[i];
                break;
            case AttentionElementType.Q8Block:
                for (int i = 0; i < destination.Length; i++) destination[i] = ((Q8Block*)source)[i / Q8Block.Length][i % Q8Block.Length];
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
