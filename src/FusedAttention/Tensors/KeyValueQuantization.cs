using System.Buffers;
using System.Runtime.CompilerServices;
using FusedAttention.Tensors;

namespace FusedAttention;

/// <summary>
/// Keys and values to the 8-bit forms that <see cref="Attention"/> takes. A row is the numbers of one token and head; rows lie one after the other, so a tensor <c>[tokens, kvHeads, dim]</c> is tokens x kvHeads rows, and its scales
/// <c>[tokens, kvHeads]</c> are what <see cref="AttentionOperands.KeyScale"/> and <see cref="AttentionOperands.ValueScale"/> want.
/// </summary>
/// <remarks>
/// <para>The rules are exact, in 32-bit IEEE arithmetic on every machine; numbers of 16 bits are widened first. Rows must be finite: what becomes of a row with infinity or NaN is unspecified, but for <see cref="Float8E4M3"/> of given
/// scales, where infinity becomes 448 and NaN stays.</para>
/// <para><see cref="sbyte"/>: <c>scale = max|x| / 127</c>, <c>code = clamp(round(x / scale), -127, 127)</c>, ties to even; all codes are 0 where the scale is 0, as for rows of zeros.</para>
/// <para><see cref="Float8E4M3"/>: <c>code = (Float8E4M3)(x / scale)</c>; a scale that is not given is <c>max|x| / 448</c>, or 1 where that is 0.</para>
/// <para><see cref="Q8Block"/>: for each 32 numbers <c>scale = (Half)(max|x| / 127)</c>, at most 65504, and codes as for <see cref="sbyte"/> by that rounded scale.</para>
/// </remarks>
public static unsafe class KeyValueQuantization
{
    /// <summary>Rows <c>[rows, dim]</c> to codes from -127 to 127, and a scale for each row.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="rows"><c>[rows, dim]</c>.</param>
    /// <param name="dim">Numbers of a row, 1 or more.</param>
    /// <param name="codes">Receives <c>[rows, dim]</c>.</param>
    /// <param name="scales">Receives one a row.</param>
    /// <exception cref="ArgumentException">Lengths do not fit each other, or <typeparamref name="T"/> is none of the three types; the message has the numbers.</exception>
    public static void ToInt8<T>(ReadOnlySpan<T> rows, int dim, Span<sbyte> codes, Span<float> scales)
        where T : unmanaged
    {
        fixed (sbyte* first = codes) Quantize(AttentionElementType.Int8, rows, dim, (byte*)first, codes.Length, scales);
    }

    /// <summary>Rows <c>[rows, dim]</c> to <see cref="Float8E4M3"/>, and a scale for each row.</summary>
    /// <param name="rows"><c>[rows, dim]</c>.</param>
    /// <param name="dim">Numbers of a row, 1 or more.</param>
    /// <param name="codes">Receives <c>[rows, dim]</c>.</param>
    /// <param name="scales">Receives one a row.</param>
    /// <inheritdoc cref="ToInt8{T}(ReadOnlySpan{T}, int, Span{sbyte}, Span{float})"/>
    public static void ToFloat8<T>(ReadOnlySpan<T> rows, int dim, Span<Float8E4M3> codes, Span<float> scales)
        where T : unmanaged
    {
        fixed (Float8E4M3* first = codes) Quantize(AttentionElementType.Float8E4M3, rows, dim, (byte*)first, codes.Length, scales);
    }

    /// <summary>Numbers in any layout to <see cref="Float8E4M3"/> by one scale that is given.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="numbers">Any amount.</param>
    /// <param name="scale">What numbers are divided by: finite, above 0.</param>
    /// <param name="codes">Receives as many.</param>
    /// <exception cref="ArgumentException">Lengths do not fit each other, the scale is not finite or not above 0, or <typeparamref name="T"/> is none of the three types; the message has the numbers.</exception>
    [SkipLocalsInit]
    public static void ToFloat8<T>(ReadOnlySpan<T> numbers, float scale, Span<Float8E4M3> codes)
        where T : unmanaged
    {
        const int Step = 256;
        AttentionElementType type = ElementTypes.Of<T>(nameof(numbers));
        if (codes.Length != numbers.Length) throw new ArgumentException($"codes has {codes.Length} elements; expected {numbers.Length}, as many as there are numbers.", nameof(codes));
        if (!(scale > 0 && float.IsFinite(scale))) throw new ArgumentException($"scale is {scale}; expected a finite number above 0.", nameof(scale));
        float* widened = stackalloc float[Step];
        fixed (T* source = numbers)
        fixed (Float8E4M3* code = codes)
        {
            for (int done = 0; done < numbers.Length; done += Step)
            {
                int count = Math.Min(Step, numbers.Length - done);
                ElementConversion.Convert(type, source + done, AttentionElementType.Float32, widened, count);
                Quantization.ToFloat8(widened, count, scale, code + done);
            }
        }
    }

    /// <summary>Numbers to blocks of 32.</summary>
    /// <typeparam name="T"><see cref="float"/>, <see cref="Half"/> or <see cref="BFloat16"/>.</typeparam>
    /// <param name="numbers">A multiple of 32: rows of any such length, one after the other.</param>
    /// <param name="blocks">Receives a 32nd as many.</param>
    /// <exception cref="ArgumentException">Lengths do not fit each other, or <typeparamref name="T"/> is none of the three types; the message has the numbers.</exception>
    [SkipLocalsInit]
    public static void ToQ8Blocks<T>(ReadOnlySpan<T> numbers, Span<Q8Block> blocks)
        where T : unmanaged
    {
        AttentionElementType type = ElementTypes.Of<T>(nameof(numbers));
        if (blocks.Length != (long)numbers.Length / Q8Block.Length || numbers.Length % Q8Block.Length != 0)
        {
            throw new ArgumentException($"blocks has {blocks.Length} elements for {numbers.Length} numbers; expected a multiple of {Q8Block.Length} numbers and a block for each {Q8Block.Length}.", nameof(blocks));
        }

        float* widened = stackalloc float[Q8Block.Length];
        fixed (T* source = numbers)
        fixed (Q8Block* first = blocks)
        {
            for (int b = 0; b < blocks.Length; b++)
            {
                ElementConversion.Convert(type, source + (b * Q8Block.Length), AttentionElementType.Float32, widened, Q8Block.Length);
                Quantization.ToQ8Blocks(widened, Q8Block.Length, first + b);
            }
        }
    }

    private static void Quantize<T>(AttentionElementType type, ReadOnlySpan<T> rows, int dim, byte* codes, int count, Span<float> scales)
        where T : unmanaged
    {
        AttentionElementType source = ElementTypes.Of<T>(nameof(rows));
        if (dim < 1) throw new ArgumentOutOfRangeException(nameof(dim), dim, $"dim is {dim}; expected 1 or more.");
        if (rows.Length % dim != 0) throw new ArgumentException($"rows has {rows.Length} elements, which are no whole rows of {dim}.", nameof(rows));
        if (count != rows.Length) throw new ArgumentException($"codes has {count} elements; expected {rows.Length}, as many as rows has.", nameof(codes));
        if (scales.Length != rows.Length / dim) throw new ArgumentException($"scales has {scales.Length} elements; expected {rows.Length / dim}, one a row.", nameof(scales));
        float[] widened = ArrayPool<float>.Shared.Rent(dim);
        fixed (T* first = rows)
        fixed (float* row = widened, scale = scales)
        {
            for (long r = 0; r < scales.Length; r++)
            {
                ElementConversion.Convert(source, first + (r * dim), AttentionElementType.Float32, row, dim);
                Quantization.Row(type, row, dim, codes + (r * dim), scale + r);
            }
        }

        ArrayPool<float>.Shared.Return(widened);
    }
}
