using FusedAttention.Checking.Formats;
using FusedAttention.Checking.Oracle;
using FusedAttention.Checking.Problems;

namespace FusedAttention.Cli.Commands;

/// <summary>Keys, or values, of 8 bits: as a file has them, and how far they are from the numbers that they were made from.</summary>
/// <param name="From">Those numbers.</param>
/// <param name="Type">The 8-bit type.</param>
/// <param name="Tensors">Codes and scales; or blocks, as bytes.</param>
/// <param name="NotFinite">How many numbers are NaN or infinite; errors count the others.</param>
/// <param name="MaxAbsolute">The largest |error|.</param>
/// <param name="RootMeanSquare">The root of the mean square of the error.</param>
/// <param name="Relative">The same over that of the numbers; 0 where all are.</param>
internal sealed record QuantizedPart(LoadedTensor From, TensorElementType Type, LoadedTensor[] Tensors, int NotFinite, double MaxAbsolute, double RootMeanSquare, double Relative)
{
    /// <summary>Quantizes a tensor <c>[..., tokens, heads, dim]</c>.</summary>
    /// <exception cref="UsageException">It holds no numbers, or is of another rank, or its rows are no whole blocks.</exception>
    public static QuantizedPart Of(LoadedTensor numbers, TensorElementType type, string scaleName)
    {
        if (!numbers.ElementType.IsFloatingPoint()) throw new UsageException($"{numbers} does not hold floating-point numbers.");
        if (numbers.Rank is not (3 or 4)) throw new UsageException($"{numbers} must be [keys, heads, dim], [batch, keys, heads, dim] or a cache [blocks, block size, heads, dim].");
        QuantizedTensor quantized = QuantizedTensor.Of(numbers, type);
        double[] before = numbers.ToDoubles(), after = CallOracle.Numbers(quantized.Codes, quantized.Scale);
        int notFinite = 0;
        double most = 0, errors = 0, squares = 0;
        for (int i = 0; i < before.Length; i++)
        {
            if (!double.IsFinite(before[i]))
            {
                notFinite++;
                continue;
            }

            double error = Math.Abs(after[i] - before[i]);
            most = Math.Max(most, error);
            errors += error * error;
            squares += before[i] * before[i];
        }

        return new(
            numbers, type, InFile(quantized, scaleName), notFinite, most, Math.Sqrt(errors / Math.Max(1, before.Length - notFinite)), squares > 0 ? Math.Sqrt(errors / squares) : 0);
    }

    private static LoadedTensor[] InFile(QuantizedTensor quantized, string scaleName)
    {
        (LoadedTensor codes, LoadedTensor? scale) = quantized;
        return scale is not null
            ? [codes, new(scaleName, scale.ElementType, scale.Shape, scale.Bytes.ToArray())]
            : [new(codes.Name, TensorElementType.UInt8, [.. codes.Shape[..^1], codes.Shape[^1] * Q8Block.SizeInBytes], codes.Bytes.ToArray())];
    }
}
