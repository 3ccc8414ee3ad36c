using System.Runtime.InteropServices;
using FusedAttention.Checking.Formats;

namespace FusedAttention.Checking.Problems;

/// <summary>Keys or values of 8 bits, made by the rules of <see cref="KeyValueQuantization"/>.</summary>
/// <param name="Codes">In the shape of the numbers, blocks in place of each 32 of the last dimension.</param>
/// <param name="Scale">What codes are multiplied with, one for each token and head: the shape without the last dimension. Null where blocks hold their own.</param>
public sealed record QuantizedTensor(LoadedTensor Codes, LoadedTensor? Scale)
{
    /// <summary>Numbers that are widened at a time: whole rows, and more than one only while they stay in a cache.</summary>
    private const int StepNumbers = 1 << 16;

    /// <summary>Quantizes a tensor <c>[..., heads, dim]</c>.</summary>
    /// <param name="numbers">Floating-point numbers; those of double precision are rounded to floats first.</param>
    /// <param name="type">One of the 8-bit types.</param>
    /// <exception cref="UsageException">Rows are no whole blocks.</exception>
    public static QuantizedTensor Of(LoadedTensor numbers, TensorElementType type)
    {
        LoadedTensor floats = numbers.ConvertTo(TensorElementType.Float32);
        return Create(numbers.Name, type, numbers.Shape.AsSpan(), (row, start) => floats.Elements<float>().Slice((int)start, row.Length).CopyTo(row));
    }

    /// <summary>Quantizes random numbers, a step at a time: a benchmark's are gigabytes as floats.</summary>
    /// <param name="name">What an error calls the tensor.</param>
    /// <param name="numbers">As many as the shape has.</param>
    /// <param name="type">One of the 8-bit types.</param>
    /// <param name="shape">Of the numbers.</param>
    /// <exception cref="UsageException">It is larger than a tensor may be here, or rows are no whole blocks.</exception>
    public static QuantizedTensor Of(string name, RandomNumbers numbers, TensorElementType type, params ReadOnlySpan<long> shape) => Create(name, type, shape, numbers.CopyTo);

    private static QuantizedTensor Create(string name, TensorElementType type, ReadOnlySpan<long> shape, Action<Span<float>, long> read)
    {
        int dim = (int)shape[^1], block = type.Numbers();
        if (dim % block != 0) throw new UsageException($"{name} {LoadedTensor.Describe(shape)} has rows of {dim} numbers; {type.ShortName()} needs multiples of {block}.");
        if (LoadedTensor.TryCountElements(shape) is not long count || count / block > TensorFile.MaxTensorBytes / type.SizeInBytes())
            throw new UsageException($"{name} {LoadedTensor.Describe(shape)} passes {TensorFile.MaxTensorBytes} bytes, which is as much as this tool holds in one tensor.");
        byte[] codes = GC.AllocateUninitializedArray<byte>((int)(count / block * type.SizeInBytes()));
        float[] scales = new float[dim == 0 ? 0 : (int)(count / dim)];
        int stepRows = Math.Max(1, StepNumbers / Math.Max(1, dim)), rowBytes = dim / block * type.SizeInBytes();
        float[] widened = new float[Math.Min(stepRows, scales.Length) * dim];
        for (int row = 0; row < scales.Length; row += stepRows)
        {
            int rows = Math.Min(stepRows, scales.Length - row);
            Span<float> step = widened.AsSpan(0, rows * dim);
            read(step, (long)row * dim);
            Quantize(type, step, dim, codes.AsSpan(row * rowBytes, rows * rowBytes), scales.AsSpan(row, rows));
        }

        var tensor = new LoadedTensor(name, type, [.. shape[..^1], dim / block], codes);
        return new(tensor, type == TensorElementType.Q8Block ? null : LoadedTensor.Create<float>(name + "_scale", scales, shape[..^1]));
    }

    private static void Quantize(TensorElementType type, ReadOnlySpan<float> rows, int dim, Span<byte> codes, Span<float> scales)
    {
        switch (type)
        {
            case TensorElementType.Int8: KeyValueQuantization.ToInt8(rows, dim, MemoryMarshal.Cast<byte, sbyte>(codes), scales); break;
            case TensorElementType.Float8E4M3: KeyValueQuantization.ToFloat8(rows, dim, MemoryMarshal.Cast<byte, Float8E4M3>(codes), scales); break;
            case TensorElementType.Q8Block: KeyValueQuantization.ToQ8Blocks(rows, MemoryMarshal.Cast<byte, Q8Block>(codes)); break;
            default: throw new ArgumentOutOfRangeException(nameof(type), type, "Not an 8-bit type.");
        }
    }
}
