using System.Collections.Immutable;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace FusedAttention.Checking.Formats;

/// <summary>A tensor in memory, whatever file it came from: a name, an element type, a shape and the little-endian bytes of its elements in row-major order.</summary>
public sealed class LoadedTensor
{
    private readonly byte[] _data;

    public LoadedTensor(string name, TensorElementType elementType, ImmutableArray<long> shape, byte[] data)
    {
        long elements = TryCountElements(shape.AsSpan()) ?? throw new ArgumentException($"{name} has a shape that passes 2^63 elements: {Describe(shape.AsSpan())}.", nameof(shape));
        if (elements != data.LongLength / elementType.SizeInBytes() || data.LongLength % elementType.SizeInBytes() != 0)
            throw new ArgumentException($"{name} {Describe(shape.AsSpan())} of {elementType} needs {elements} elements, but has {data.LongLength} bytes.", nameof(data));
        Name = name;
        ElementType = elementType;
        Shape = shape;
        _data = data;
    }

    public string Name { get; }

    public TensorElementType ElementType { get; }

    public ImmutableArray<long> Shape { get; }

    public int Rank => Shape.Length;

    public int ElementCount => _data.Length / ElementType.SizeInBytes();

    public ReadOnlySpan<byte> Bytes => _data;

    /// <summary>A tensor with these elements.</summary>
    public static LoadedTensor Create<T>(string name, ReadOnlySpan<T> elements, params ReadOnlySpan<long> shape)
        where T : unmanaged
        => new(name, TypeOf<T>(), [.. shape], MemoryMarshal.AsBytes(elements).ToArray());

    /// <summary>The elements; <typeparamref name="T"/> must be the type they are stored in.</summary>
    public ReadOnlySpan<T> Elements<T>()
        where T : unmanaged
        => TypeOf<T>() == ElementType
            ? MemoryMarshal.Cast<byte, T>(_data)
            : throw new InvalidOperationException($"{Name} holds {ElementType}, not {TypeOf<T>()}.");

    /// <summary>The elements in their shape; <typeparamref name="T"/> must be the type they are stored in.</summary>
    public ReadOnlyTensorSpan<T> AsTensorSpan<T>()
        where T : unmanaged
        => new(Elements<T>(), Lengths(Shape.AsSpan()));

    /// <summary>The elements as numbers in double precision: exact for every type but 64-bit integers beyond 2^53. Blocks become the numbers that they hold.</summary>
    public double[] ToDoubles()
    {
        double[] result = new double[checked(ElementCount * ElementType.Numbers())];
        switch (ElementType)
        {
            case TensorElementType.Float32: Widen(Elements<float>(), result, static x => x); break;
            case TensorElementType.Float16: Widen(Elements<Half>(), result, static x => (double)x); break;
            case TensorElementType.BFloat16: Widen(Elements<BFloat16>(), result, static x => x); break;
            case TensorElementType.Float64: Elements<double>().CopyTo(result); break;
            case TensorElementType.Int32: Widen(Elements<int>(), result, static x => x); break;
            case TensorElementType.Int64: Widen(Elements<long>(), result, static x => x); break;
            case TensorElementType.Int8: Widen(Elements<sbyte>(), result, static x => x); break;
            case TensorElementType.Float8E4M3: Widen(Elements<Float8E4M3>(), result, static x => x); break;
            case TensorElementType.Q8Block:
                for (int i = 0; i < result.Length; i++) result[i] = Elements<Q8Block>()[i / Q8Block.Length][i % Q8Block.Length];
                break;
            default: Widen(Bytes, result, static x => x); break;
        }

        return result;
    }

    /// <summary>The same elements rounded once to another floating-point type; itself when it has that type already.</summary>
    public LoadedTensor ConvertTo(TensorElementType type)
    {
        if (type == ElementType) return this;
        if (!ElementType.IsFloatingPoint()) throw new InvalidOperationException($"{Name} holds {ElementType}, which does not convert to {type}.");
        double[] values = ToDoubles();
        byte[] bytes = new byte[checked((long)values.Length * type.SizeInBytes())];
        switch (type)
        {
            case TensorElementType.Float32: Narrow<float>(values, bytes, static x => (float)x); break;
            case TensorElementType.Float16: Narrow<Half>(values, bytes, static x => (Half)x); break;
            // Through float: a double that float rounds onto a tie of bfloat16 may end one last bit off, which no stored bfloat16 or float can.
            case TensorElementType.BFloat16: Narrow<BFloat16>(values, bytes, static x => (BFloat16)(float)x); break;
            case TensorElementType.Float64: Narrow<double>(values, bytes, static x => x); break;
            default: throw new ArgumentOutOfRangeException(nameof(type), type, "Not a floating-point type.");
        }

        return new(Name, type, Shape, bytes);
    }

    public override string ToString() => $"{Name} {Describe(Shape.AsSpan())} {ElementType.SafeTensorsName()}";

    /// <summary>A shape as text: <c>[2, 3]</c>.</summary>
    public static string Describe(ReadOnlySpan<long> shape)
    {
        var text = new System.Text.StringBuilder("[");
        for (int i = 0; i < shape.Length; i++) text.Append(i == 0 ? "" : ", ").Append(shape[i]);
        return text.Append(']').ToString();
    }

    /// <summary>A shape as tensors of the framework want it.</summary>
    public static nint[] Lengths(ReadOnlySpan<long> shape)
    {
        nint[] lengths = new nint[shape.Length];
        for (int i = 0; i < lengths.Length; i++) lengths[i] = (nint)shape[i];
        return lengths;
    }

    /// <summary>The product of the lengths; null when one is negative or the product passes 2^63.</summary>
    public static long? TryCountElements(ReadOnlySpan<long> shape)
    {
        long count = 1;
        foreach (long length in shape)
        {
            if (length < 0) return null;
            long high = Math.BigMul(count, length, out long low);
            if (high != 0 || low < 0) return null;
            count = low;
        }

        return count;
    }

    private static TensorElementType TypeOf<T>()
    {
        if (typeof(T) == typeof(float)) return TensorElementType.Float32;
        if (typeof(T) == typeof(Half)) return TensorElementType.Float16;
        if (typeof(T) == typeof(BFloat16)) return TensorElementType.BFloat16;
        if (typeof(T) == typeof(double)) return TensorElementType.Float64;
        if (typeof(T) == typeof(int)) return TensorElementType.Int32;
        if (typeof(T) == typeof(long)) return TensorElementType.Int64;
        if (typeof(T) == typeof(bool)) return TensorElementType.Boolean;
        if (typeof(T) == typeof(byte)) return TensorElementType.UInt8;
        if (typeof(T) == typeof(sbyte)) return TensorElementType.Int8;
        if (typeof(T) == typeof(Float8E4M3)) return TensorElementType.Float8E4M3;
        if (typeof(T) == typeof(Q8Block)) return TensorElementType.Q8Block;
        throw new NotSupportedException($"No file format here holds elements of {typeof(T)}.");
    }

    private static void Widen<T>(ReadOnlySpan<T> from, Span<double> to, Func<T, double> convert)
    {
        for (int i = 0; i < from.Length; i++) to[i] = convert(from[i]);
    }

    private static void Narrow<T>(ReadOnlySpan<double> from, byte[] bytes, Func<double, T> convert)
        where T : unmanaged
    {
        Span<T> to = MemoryMarshal.Cast<byte, T>(bytes.AsSpan());
        for (int i = 0; i < from.Length; i++) to[i] = convert(from[i]);
    }
}
